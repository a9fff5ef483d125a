#!/usr/bin/env bash
# A screen without a desktop: the window through the kernel's modesetting, and on the plain
# framebuffer where SDL finds nothing. The machine's own screen is photographed: with labelcam
# it has many colours, and a console few.
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
    in_machine 'cd /host/checkout && exec setsid /opt/venv/bin/python -m device run \
        --source synthetic --set window.enabled=true --set window.fullscreen=true \
        --set terminal.enabled=false --set model.threads=1 </dev/null >/said 2>&1 & echo $! >/pid'
    until seen=$(colours "$1") && ((seen > 200)); do
        in_machine 'kill -0 $(cat /pid)' || wrong "$1: labelcam ended"
        ((SECONDS < until)) || wrong "$1: $seen colours on the screen after 120 s"
        sleep 3
    done
    echo "$1: $seen colours"
    in_machine 'kill $(cat /pid); for _ in $(seq 100); do
        kill -0 $(cat /pid) 2>/dev/null || exit 0; sleep 0.1; done; exit 1' ||
        wrong "$1: SIGTERM did not end it in 10 s"
    seen=$(colours "$1-after")
    ((seen < 50)) || wrong "$1: $seen colours stay on the screen"
}

wrong() {
    in_machine cat /said || true
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
        -r /host/wheels/requirements.txt'
show kmsdrm
in_machine mv /dev/dri /dev/dri.away
show framebuffer
[[ -z ${KEEP:-} ]] || cp "$share"/*.ppm "$KEEP"
echo 'screen: all is well'
