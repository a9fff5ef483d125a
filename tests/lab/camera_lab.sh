# Shared by the jobs for cameras: how they come to a machine that has some. Source me.
# The lab is $LABELCAM_LAB, else ../shared/lab beside the checkout; its trees and images are
# kept in $LAB. Where it cannot run, a loud line says so and the status is 77.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
lab=${LABELCAM_LAB:-$here/../shared/lab}
export LAB=${LAB:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/labcam-lab}
name=trixie-amd64

not_run() {
    printf '!!! NOT RUN: %s: %s\n' "$(basename "$0")" "$*" >&2
    exit 77
}

check_lab() {
    [[ -x $lab/lab-build.sh ]] || not_run "no lab in $lab; LABELCAM_LAB=… names one"
    [[ $(id -u) == 0 ]] || not_run 'the lab needs root'
    [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || not_run 'the lab is for Debian on amd64'
    unshare --mount true 2>/dev/null || not_run 'no mounts are allowed here'
}

build() { # a tree and a machine with Picamera2 and cameras: five minutes, the first time
    mkdir -p "$LAB/cache/pip" "$LAB/logs"
    [[ -e $LAB/images/$name.ext4 && -d $LAB/work/$name/opt/libcamera-lab ]] && return
    timeout 1200 "$lab/lab-build.sh" "$name" >"$LAB/logs/cameras.log" 2>&1 ||
        { tail -20 "$LAB/logs/cameras.log" && echo 'the lab made no machine with cameras' && exit 1; }
}

fill_share() { # JOB: the checkout without what git ignores, and the guest's side of the job
    share=$(mktemp -d)
    trap 'rm -rf "$share"' EXIT
    mkdir "$share/checkout"
    git -C "$here" ls-files -co --exclude-standard -z |
        tar -C "$here" --null --ignore-failed-read -T - -c |
        tar -C "$share/checkout" -x --no-same-owner
    printf 'exec bash /host/checkout/tests/lab/%q guest\n' "$(basename "$0")" >"$share/job.sh"
}

# --- in the guest -----------------------------------------------------------------------------

fail() {
    echo "$(basename "$0"): $*"
    [[ ! -s /said ]] || { echo '--- what labelcam said:' && tail -40 /said; }
    exit 1
}

labelcam() { (cd /host/checkout && exec /opt/venv/bin/python -m device "$@"); }

start() { # ARGUMENT…: labelcam in the background, its lines in /said, its labels in /labels
    : >/said && : >/labels
    (cd /host/checkout && exec /opt/venv/bin/python -m device run --set jsonl.enabled=true "$@") \
        >>/labels 2>>/said &
    pid=$!
}

wait_for() { # SECONDS FILE PATTERN: until a line of the file matches
    local until=$((SECONDS + $1))
    until grep -qE "$3" "$2"; do
        ((SECONDS < until)) || fail "no line like '$3' in $1 s"
        kill -0 "$pid" 2>/dev/null || grep -qE "$3" "$2" || fail "labelcam ended before '$3'"
        sleep 0.1
    done
}

finish() { # end it as a service manager does, and have it end well
    kill -TERM "$pid"
    local status=0
    wait "$pid" || status=$?
    ((status == 0)) || fail "labelcam ended with status $status"
}
