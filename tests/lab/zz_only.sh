#!/usr/bin/env bash
# Real kernel drivers: vivid, which is disconnected, fails while it streams, and comes back under
# another number; and a USB webcam in software behind uvcvideo, in YUYV and in JPEG, which
# freezes, is unplugged and plugged in again. Each time labelcam is back by itself.
# usage: tests/lab/v4l2.sh        as root, in the lab's virtual machine; see camera_lab.sh
set -euo pipefail
# shellcheck source=tests/lab/camera_lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/camera_lab.sh"

colours() { # a model that a machine in emulation runs fast enough
    (cd /host/checkout && /opt/venv/bin/python -c '
from pathlib import Path
from tests.tiny import colour_model
Path("/colours.tflite").write_bytes(colour_model(softmax=True))
Path("/colours.txt").write_text("red\ngreen\nblue\n")')
}

watch() { # SOURCE ARGUMENT…
    start --source "$1" --set model.name=/colours.tflite --set decide.enter=0.2 \
        --set decide.exit=0.1 --set camera.stall_s=3 --set camera.watch_picture=false \
        --verbose "${@:2}"
    wait_for 90 /labels '"label":"(red|green|blue|unknown)"'
}

back() { # WHAT: lost or stalled, then back; starts again with empty logs
    wait_for 40 /said 'opening it again until it is back'
    grep 'opening it again' /said
    wait_for 5 /labels '"label":"unavailable"'
    "${@:2}"
    wait_for 60 /said 'back after'
    grep -o 'camera .* back after.*' /said
    wait_for 30 /labels '"previous":"unavailable"'
    : >/said && : >/labels
    echo "ok: $1"
}

ages() { # how old a frame is when it is there, by the kernel's time stamp
    (cd /host/checkout && /opt/venv/bin/python -c '
import statistics, sys, time
from device import config
from device.cameras import open_camera
with open_camera(config.Camera(source=sys.argv[1])) as camera:
    ages = [-camera.read().captured_at + time.monotonic() for _ in range(40)][5:]
print(f"{sys.argv[1]}: age of a frame {statistics.median(ages) * 1e3:.1f} ms, "
      f"at most {max(ages) * 1e3:.1f} ms; again as {camera.again}")' "$1")
}

vivid() {
    modprobe vivid n_devs=1 node_types=0x1
    udevadm settle
    ages /dev/video0
    watch /dev/video0
    grep 'Layout' /said
    : >/said && : >/labels
    for fault in inject_fatal_streaming_error disconnect; do
        v4l2-ctl -d /dev/video0 -c "$fault=1"
        back "vivid: $fault" true
    done
    exec 9</dev/video0 # a node that someone holds keeps its number
    echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind
    back 'vivid: unbound, then there under another number' renumber
    finish
    rmmod vivid
}

renumber() {
    sleep 3
    echo vivid.0 >/sys/bus/platform/drivers/vivid/bind
    udevadm settle
    [[ -e /dev/video1 ]] || fail 'vivid is not back under another number'
    exec 9<&-
}

plug() { # [SCRIPT]: the software webcam
    /opt/venv/bin/python "${1:-/opt/lab/uvc_usbip.py}" >/tmp/uvc.log 2>&1 &
    webcam=$!
    for _ in $(seq 100); do
        ! compgen -G '/dev/v4l/by-id/*-index0' >/dev/null || break
        sleep 0.3
    done
    udevadm settle
}

unplug() {
    kill "$webcam"
    wait "$webcam" || true
}

freeze() {
    kill -USR1 "$webcam"
}

uvc() {
    modprobe -a vhci-hcd uvcvideo
    plug
    local node
    node=$(readlink -f /dev/v4l/by-id/*-index0)
    ages "$node"
    watch "$node"
    grep 'Layout' /said
    : >/said && : >/labels
    unplug
    back 'webcam: unplugged and plugged in again' plug
    freeze
    back 'webcam: frozen' freeze
    finish
    unplug
    # Raw pixels come slowly now: JPEG is what reaches the rate.
    sed 's/^yu = /IVALS = [1000000, 2000000]\nyu = /' /opt/lab/uvc_usbip.py >/tmp/slow.py
    plug /tmp/slow.py
    watch usb:1209:0001
    grep "Layout(pixels='MJPG'" /said || fail 'the webcam is not read as JPEG'
    ! grep -i 'jpeg' /said | grep -v Layout || fail 'libjpeg speaks'
    : >/said && : >/labels
    unplug
    back 'webcam in JPEG, by its USB id' plug /tmp/slow.py
    finish
    unplug
}

refusals() {
    touch /dev/video70 && mkdir -p /dev/video71
    local status=0
    labelcam run --source /dev/video70 --frames 1 >/said 2>&1 || status=$?
    ((status == 1)) || fail "a file in its place: status $status"
    grep 'is a file and no device' /said || fail 'a file in its place'
    labelcam run --source /dev/video71 --frames 1 >/said 2>&1 || true
    grep 'is a directory' /said || fail 'a directory in its place'
    labelcam run --source /dev/video72 --frames 1 >/said 2>&1 || true
    grep 'no such device' /said || fail 'absent'
}

opens() { # DEVICE: whether a process of the service may, root or not
    bash -c 'echo $BASHPID >/sys/fs/cgroup/system.slice/labelcam.service/cgroup.procs
        exec 3<"$1"' - "$1" 2>/dev/null
}

installed() { # by install.sh; the camera is read under the unit's own DeviceAllow
    modprobe vivid n_devs=1 node_types=0x1
    udevadm settle
    mkdir -p /etc/labelcam
    printf '[camera]\nsource = "auto"\nwatch_picture = false\n[model]\nname = "/colours.tflite"
[decide]\nenter = 0.2\nexit = 0.1\n' >/etc/labelcam/config.toml
    /host/checkout/install.sh --offline /host/wheels 2>&1 | tail -n 12
    journalctl -u labelcam.service -o cat | grep 'chose /dev/video0' || fail 'no camera in the service'
    wait_until 60 label_logged || fail 'no label from the installed service'
    opens /dev/video0 || fail 'the camera is shut'
    ! opens /dev/fb0 || fail 'the screen is open to the service'
    ! opens /dev/vda || fail 'the disk is open to the service'
    systemctl status labelcam.service --no-pager -n 5
    /host/checkout/install.sh --uninstall --purge
    rmmod vivid
}

label_logged() { journalctl -u labelcam.service -o cat | grep -E '^camera  (red|green|blue|unknown) '; }

wait_until() { # SECONDS COMMAND…
    local until=$((SECONDS + $1))
    until "${@:2}"; do
        ((SECONDS < until)) || return
        sleep 0.5
    done
}

guest() {
    /opt/venv/bin/pip install -q --disable-pip-version-check --no-index \
        --find-links /host/wheels -r /host/checkout/requirements.txt
    colours



    installed
    echo 'v4l2: all is well'
}

if [[ ${1:-} == guest ]]; then
    guest
    exit
fi
check_lab
build
fill_share
# The machine has no network.
mkdir "$share/wheels"
cp "$here/requirements.txt" "$share/wheels/"
BIND="$share/wheels:/mnt" "$lab/chroot.sh" "$LAB/work/$name" /opt/venv/bin/pip download -q \
    --disable-pip-version-check -d /mnt -r /mnt/requirements.txt
MEM=1500 "$lab/vm.sh" job "$name" "$share" "${JOB_S:-900}"
