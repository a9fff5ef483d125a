#!/usr/bin/env bash
# Runs one job of this folder as root in a fresh Debian under its own systemd.
# usage: tests/lab/run.sh bookworm|trixie JOB [ARGUMENT…]      e.g. trixie first_light.sh suite
# The lab is $LABELCAM_LAB, else ../shared/lab beside the checkout. It keeps its trees in $LAB.
# Exits with the job's status, or with 77 and a loud line where the lab cannot run.
# The job finds the checkout, without what git ignores, in /host/checkout, pictures and models
# in $LABELCAM_TESTDATA if there are any, and a network. What it puts into /wheels is there the
# next time; /host/standin.so is the stand-in for libedgetpu. JOB_S bounds its time in seconds.
set -euo pipefail

suite=${1:?which Debian?} job=${2:?which job?}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
lab=${LABELCAM_LAB:-$here/../shared/lab}
testdata=${LABELCAM_TESTDATA:-$here/../shared/testdata}
job_s=${JOB_S:-600}

not_run() {
    printf '!!! NOT RUN: %s on %s: %s\n' "$job" "$suite" "$*" >&2
    exit 77
}

check_lab() {
    [[ -x $lab/nspawn.sh ]] || not_run "no lab in $lab; LABELCAM_LAB=… names one"
    [[ $(id -u) == 0 ]] || not_run 'the lab needs root'
    [[ $(dpkg --print-architecture 2>/dev/null) == amd64 ]] || not_run 'the lab is for Debian on amd64'
    unshare --mount true 2>/dev/null || not_run 'no mounts are allowed here'
}

fill_share() {
    share=$(mktemp -d)
    trap 'rm -rf "$share"' EXIT
    mkdir "$share/checkout"
    git -C "$here" ls-files -co --exclude-standard -z |
        tar -C "$here" --null --ignore-failed-read -T - -c 2>/dev/null | tar -C "$share/checkout" -x --no-same-owner
    wheels=$here/.venv-cache/wheels-$suite
    mkdir -p "$wheels"
    nspawn_arguments="--bind=$wheels:/wheels"
    ! command -v gcc >/dev/null ||
        gcc -std=gnu11 -O1 -shared -fPIC -o "$share/standin.so" "$here/tests/edgetpu/standin.c"
    if [[ -d $testdata ]]; then
        nspawn_arguments+=" --bind-ro=$(readlink -f "$testdata"):/testdata"
        echo 'export LABELCAM_TESTDATA=/testdata' >"$share/job.sh"
    fi
    printf 'exec bash /host/checkout/tests/lab/%q' "$job" >>"$share/job.sh"
    printf ' %q' "${@:3}" >>"$share/job.sh"
}

build_tree() { # a minute, the first time
    command -v mmdebstrap >/dev/null || apt-get -qq update || true
    timeout 300 "$lab/mktree.sh" "$suite" >"$share/tree.log" 2>&1 ||
        { cat "$share/tree.log" && echo "the lab made no tree for $suite" && exit 1; }
    tree=$(tail -n 1 "$share/tree.log")
}

run_job() {
    NET=host TMO=$job_s ARGS=$nspawn_arguments \
        timeout -k 15 $((job_s + 30)) "$lab/nspawn.sh" "$tree" "$share"
}

check_lab
fill_share "$@"
build_tree
run_job
