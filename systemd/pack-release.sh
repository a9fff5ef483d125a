#!/usr/bin/env bash
# One file that upgrades boards without a network: this checkout, and its packages for them.
# usage: PYTHON=python3.11 systemd/pack-release.sh FILE.tar \
#            --platform=manylinux{2014,_2_27,_2_28,_2_34}_aarch64
#        minisign -S -s YOUR.key -m FILE.tar          and on the board, with FILE.tar.minisig beside it:
#        sudo ./install.sh --upgrade FILE.tar
# PYTHON is of the board's version; what follows FILE goes to pip download.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=systemd/install-release.sh
. "$here/systemd/install-release.sh"
file=${1:?which file to make?}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

mkdir "$stage/labelcam"
cp -r "${parts[@]/#/$here/}" "$stage/labelcam"
find "$stage" -name __pycache__ -prune -exec rm -rf {} +
"${PYTHON:-python3}" -m pip download -q --disable-pip-version-check --only-binary :all: \
    -r "$here/requirements.txt" -d "$stage/labelcam/wheels" "${@:2}"
tar -C "$stage" --sort=name --owner=0 --group=0 -cf "$file" labelcam
