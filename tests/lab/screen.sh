#!/usr/bin/env bash
# A screen without a desktop: labelcam-screen.service through the kernel's modesetting, and on
# the plain framebuffer where SDL finds nothing. The machine's own screen is photographed: with
# labelcam it has many colours, and a console few.
# usage: tests/lab/screen.sh      as root, in the lab's virtual machine; see camera_lab.sh;
#                                 KEEP=DIR keeps the photographs
# shellcheck disable=SC2016 # the machine expands it
set -euo pipefail
# shellcheck source=tests/lab/camera_lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/camera_lab.sh"

in_machine() { timeout 120 "$lab/vm.sh" ssh "$name" "$@" </dev/null; }

colours() { # NAME: how many the machine's screen has
    "$lab/vm.sh" shot "$name" "$share/$1.ppm" >/dev/null
    python3 - "$share/$1.ppm" <<'END'
import sys
with open(sys.argv[1], "rb") as file:
    pixels = file.read().split(b"\n", 3)[3]
print(len({pixels[i : i + 3] for i in range(0, len(pixels), 3 * 97)}))
END
}

show() { # NAME: labelcam on the screen, and off it
    local until=$((SECONDS + 120)) seen
    seen=$(colours "$1-before")
    ((seen < 50)) || wrong "$1: $seen colours on the screen before it was begun"
    in_machine systemctl start --no-block labelcam-screen.service
    until seen=$(colours "$1") && ((seen > 200)); do
        in_machine '! systemctl is-failed -q labelcam-screen.service' || wrong "$1: it failed"
        ((SECONDS < until)) || wrong "$1: $seen colours on the screen after 120 s"
        sleep 3
    done
    echo "$1: $seen colours"
    in_machine systemctl stop labelcam-screen.service
    in_machine '[[ $(systemctl show -P Result labelcam-screen.service) == success ]]' ||
        wrong "$1: SIGTERM did not end it well"
    seen=$(colours "$1-after")
    ((seen < 50)) || wrong "$1: $seen colours stay on the screen"
}

wrong() {
    in_machine journalctl -u labelcam-screen.service -o cat --no-pager || true
    echo "screen: $*"
    exit 1
}

check_lab
build
fill_share
rm "$share/job.sh" # the machine stays on, and is spoken to
mkdir "$share/wheels"
sed '$a pygame-ce' "$here/requirements.txt" >"$share/wheels/requirements.txt"
BIND="$share/wheels:/mnt" "$lab/chroot.sh" "$LAB/work/$name" /opt/venv/bin/pip download -q \
    --disable-pip-version-check -d /mnt -r /mnt/requirements.txt </dev/null
export MEM=1500
trap '"$lab/vm.sh" stop "$name" || true; rm -rf "$share"' EXIT
"$lab/vm.sh" start "$name" "$share" </dev/null
in_machine 'mountpoint -q /host || { mkdir -p /host && mount -t 9p -o trans=virtio host /host; }
    /opt/venv/bin/pip install -q --disable-pip-version-check --no-index --find-links /host/wheels \
        -r /host/wheels/requirements.txt
    mkdir -p /opt/labelcam /etc/labelcam && cp -r /host/checkout /opt/labelcam/current
    cd /opt/labelcam/current && mkdir bin && ln -s /opt/venv venv
    printf "%s\n" "#!/bin/sh" "cd /opt/labelcam/current && exec venv/bin/python -m device \"\$@\"" >bin/labelcam
    chmod -R a+rX . && chmod 755 bin/labelcam
    useradd --system -G video,render,input labelcam
    printf "%s\n" "[camera]" "source = \"synthetic\"" "[model]" "threads = 1" >/etc/labelcam/config.toml
    cp systemd/labelcam-screen.service /etc/systemd/system/ && systemctl daemon-reload'
show kmsdrm
in_machine mv /dev/dri /dev/dri.away
show framebuffer
[[ -z ${KEEP:-} ]] || cp "$share"/*.ppm "$KEEP"
echo 'screen: all is well'
