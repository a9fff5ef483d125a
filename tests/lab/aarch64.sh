#!/usr/bin/env bash
# The runtime, XNNPACK and the Edge TPU's stand-in on aarch64, by emulation: Debian 12 with the
# wheels that a Raspberry Pi gets. What it says is right or wrong; its times mean nothing.
# usage: tests/lab/aarch64.sh [TEST…]       ten minutes the first time, three after that
# Exits with the status of the tests, or with 77 and a loud line where the lab cannot run.
set -euo pipefail
# shellcheck source=tests/lab/camera_lab.sh
. "$(dirname "${BASH_SOURCE[0]}")/camera_lab.sh"

tree=$LAB/work/bookworm-arm64-labelcam
tests=("$@")
((${#tests[@]})) || tests=(tests/inference/test_interpreter.py tests/inference/test_edgetpu.py tests/inference/test_failover.py)

quietly() { # COMMAND…, which shows what it says only where it fails
    "$@" >"$LAB/logs/aarch64.log" 2>&1 || { tail -20 "$LAB/logs/aarch64.log" && exit 1; }
}

in_tree() { "$lab/chroot.sh" "$tree" "$@"; }

build_tree() {
    local tool
    for tool in mmdebstrap qemu-aarch64-static arch-test; do
        command -v "$tool" >/dev/null ||
            quietly apt-get install -y -q mmdebstrap qemu-user-static arch-test
    done
    quietly "$lab/binfmt.sh"
    [[ ! -e $tree/ready ]] || return 0
    quietly "$lab/mkrootfs.sh" bookworm arm64 "$tree" python3,python3-venv,gcc,libc6-dev
    quietly in_tree python3 -m venv /opt/venv
    quietly in_tree /opt/venv/bin/pip install -q --only-binary :all: -r /host/requirements.txt \
        pytest pytest-timeout hypothesis flatbuffers
    touch "$tree/ready"
}

check_lab
mkdir -p "$LAB/logs" "$LAB/cache/pip"
export BIND="$here:/host $LAB/cache/pip:/root/.cache/pip"
build_tree
# Emulation is ten times slower. The checkout is not written to.
# shellcheck disable=SC2016 # the tree's shell expands it
in_tree bash -c 'cd /host && PYTHONDONTWRITEBYTECODE=1 exec /opt/venv/bin/python -m pytest -q \
    -p no:cacheprovider --timeout 600 "$@"' -- "${tests[@]}"
