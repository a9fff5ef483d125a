#!/usr/bin/env bash
# One file that upgrades boards without a network: this checkout, and its packages for them; and
# beside it the bill of materials, labelcam-VERSION.cdx.json. docs/releases.md has all of a release.
# usage: PYTHON=python3.11 systemd/pack-release.sh FILE.tar --platform=manylinux{2014,_2_{17..36}}_aarch64
#        minisign -S -s YOUR.key -m FILE.tar          and on the board, with FILE.tar.minisig beside it:
#        sudo ./install.sh --upgrade FILE.tar
# PYTHON is of the board's version, 36 of its C library; what follows FILE goes to pip download.
# The same commit and packages give the same bytes: times are SOURCE_DATE_EPOCH, or the commit's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=systemd/install-release.sh
. "$here/systemd/install-release.sh"
file=${1:?which file to make?}
python=${PYTHON:-python3}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

mkdir "$stage/labelcam"
cp -r "${parts[@]/#/$here/}" "$stage/labelcam"
find "$stage" -name __pycache__ -prune -exec rm -rf {} +
"$python" -m pip download -q --disable-pip-version-check --only-binary :all: --require-hashes \
    -r "$here/systemd/requirements.lock" -d "$stage/labelcam/wheels" "${@:2}"
tar -C "$stage" --sort=name --owner=0 --group=0 --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" \
    --format=gnu -cf "$file" labelcam
"$python" "$here/systemd/sbom.py" "$(dirname "$file")"
