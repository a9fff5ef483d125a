#!/usr/bin/env bash
# The real Picamera2 library on libcamera, whose camera looks at photographs: the contract that
# every camera keeps, the label of the photograph, a stall and the return from it, a control and a
# camera that are not there. That a camera is busy this libcamera cannot say: two may have it.
# usage: tests/lab/picamera.sh        as root, in nspawn; see camera_lab.sh
set -euo pipefail
# shellcheck source=tests/lab/camera_lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/camera_lab.sh"

scene() { # PHOTOGRAPH: what the camera looks at
    rm -rf /scene && mkdir /scene
    cp "/host/checkout/models/footage/$1.jpg" /scene/0.jpg
    cat >"$LIBCAMERA_VIRTUAL_CONFIG" <<'F'
%YAML 1.1
---
"Virtual0":
  supported_formats:
  - width: 1280
    height: 960
    frame_rates: [5, 60]
  frames:
    path: "/scene"
  location: "CameraLocationFront"
  model: "imx708"
F
}

contract() {
    (cd /host/checkout && LABELCAM_TEST_PI=1 /opt/venv/bin/python -m pytest -q -p no:cacheprovider \
        -W 'ignore:setDaemon:DeprecationWarning' -k pi tests/cameras/test_contract.py) || fail 'the contract'
}

labels_and_stall() {
    start --source pi --set camera.stall_s=1.5
    wait_for 20 /labels '"label":"cup"'
    touch "$LIBCAMERA_VIRTUAL_STALL_FILE"
    wait_for 10 /said 'camera pi:imx708: gave no frame for [0-9.]+ s; opening it again'
    wait_for 5 /labels '"label":"unavailable".*"previous":"cup"'
    sleep 3
    rm "$LIBCAMERA_VIRTUAL_STALL_FILE"
    local returned=$EPOCHREALTIME
    wait_for 10 /said 'camera pi:imx708: back after'
    echo "back after $(((${EPOCHREALTIME/./} - ${returned/./}) / 1000)) ms"
    wait_for 10 /labels '"label":"cup".*"previous":"unavailable"'
    finish
}

another_scene() {
    scene cat
    start --source pi --set camera.controls.hflip=true
    wait_for 20 /labels '"label":"cat"'
    finish
}

whole_run() { # rate and age of frames
    labelcam run --source pi --frames 90 --set gate.motion=off >/said 2>&1 || fail 'a run of 90 frames'
    cat /said
}

remedies() {
    ! labelcam run --source pi --frames 1 --set camera.controls.gain=99 >/said 2>&1 ||
        fail 'a control that is not there'
    grep -q 'camera.controls.gain' /said || fail 'the control is not named'
    ! labelcam run --source pi:imx219 --frames 1 >/said 2>&1 || fail 'a camera that is not there'
    grep -q 'is not there; there is pi:0 (imx708)' /said || fail 'the cameras are not named'
}

guest() {
    # shellcheck source=/dev/null
    . /opt/lab/picam-env.sh
    export LIBCAMERA_VIRTUAL_CONFIG=/usr/share/libcamera/pipeline/virtual/virtual.yaml
    unset LIBCAMERA_LOG_LEVELS
    /opt/venv/bin/pip install -q --disable-pip-version-check -r /host/checkout/requirements.txt \
        pytest pytest-timeout
    scene coffee
    contract
    labels_and_stall
    whole_run
    remedies
    another_scene
    echo 'picamera: all is well'
}

if [[ ${1:-} == guest ]]; then
    guest
    exit
fi
check_lab
build
fill_share
NET=host TMO=${JOB_S:-300} timeout -k 15 $((${JOB_S:-300} + 30)) \
    "$lab/nspawn.sh" "$LAB/work/$name" "$share"
