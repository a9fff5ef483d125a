# shellcheck shell=bash disable=SC2034,SC2154
# The steps that make a release, a whole folder that nothing runs from yet; install.sh sources
# this and says which steps run in which order.

parts=(device models systemd install.sh requirements.txt pyproject.toml LICENSE README.md)

debian_packages() {
    local missing=()
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
    # Picamera2 must match the system's libcamera.
    ! is_a_pi || "$python" -c 'import picamera2' 2>/dev/null || missing+=(python3-picamera2)
    ((!${#missing[@]})) || change install_from_debian "${missing[@]}" ||
        die 1 "Debian's ${missing[*]} cannot be installed; check the network, then start again"
}

service_user() {
    local group
    if ! getent passwd labelcam >/dev/null; then
        change useradd --system --user-group --no-create-home --home-dir "$state" --shell /usr/sbin/nologin labelcam
        undo+=('userdel labelcam')
    fi
    for group in video render plugdev gpio; do
        ! getent group "$group" >/dev/null || change usermod -aG "$group" labelcam
    done
}

choose_release() {
    local number id
    number=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/device/__init__.py")
    id=$(
        cd "$here" || exit
        { find "${parts[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum && echo "$version $runtime"; } |
            sha256sum | cut -d' ' -f1
    )
    release_id=$id
    release=$releases/$number
    # What runs, or did, is never made anew in its place.
    is_whole || [[ ! -e $release/.complete && $release != "$was" && $release != "$good" ]] ||
        release=$releases/$number-${id:0:8}
}

is_whole() { [[ $(cat "$release/.complete" 2>/dev/null) == "$release_id" ]]; }

build_release() {
    ! is_whole || return 0
    venv=$release/venv built=1
    change rm -rf "$release"
    [[ -e $opt ]] || undo+=("rm -rf $opt")
    undo+=("rm -rf $release")
    change mkdir -p "$opt"
    change touch "$opt/.labelcam"
    change mkdir -p "$release/bin"
    change cp -r "${parts[@]/#/$here/}" "$release"
    change find "$release" -name __pycache__ -prune -exec rm -rf {} +
    change chmod -R u=rwX,go=rX "$release"
    change make_venv
    change link_packages
    change install_wheels
    change trim_packages
    change write_launcher
    change "$venv/bin/python" -m compileall -q "$release/device"
    # The mark must not reach the disk before what it stands for.
    change sync -f "$opt"
    change mark_whole
}

link_packages() { # of the release before, with what was added to them: they take no space and no network
    local packages=lib/python$version/site-packages from=${good:-$was}
    [[ $from ]] || return 0
    if [[ -d $from/venv/$packages && $(runtime_of "$from") == "$runtime" ]]; then
        rm -rf "${venv:?}/$packages"
        cp -al "$from/venv/$packages" "$venv/$packages"
    else
        say "Packages that were added to ${from##*/} are of another Python or runtime; add them to $venv once more"
    fi
}

locked() { # the packages of the runtime, and none that only the other one brings
    local without=
    case $runtime in
        tflite-runtime) without='ai-edge-litert|backports-strenum|flatbuffers|ml-dtypes|protobuf|tqdm' ;;
        ai-edge-litert) without=tflite-runtime ;;
    esac
    sed -E "/^(${without:-none})==/,/[^\\]\$/d" "$release/systemd/requirements.lock"
}

install_wheels() {
    local options=(-q --only-binary ':all:' --require-hashes -r "$venv/requirements.lock")
    locked >"$venv/requirements.lock"
    echo "$runtime" >"$release/.runtime"
    say 'Installing its Python packages: some minutes on a small board'
    [[ -z $wheelhouse ]] || options+=(--no-index --find-links "$wheelhouse")
    # Outside of what a failure takes back.
    pip_log=$root/run/labelcam-pip.log
    PIP_NO_CACHE_DIR=1 pip_install "${options[@]}"
    rm -rf "$venv/tmp" "$pip_log"
}

trim_packages() { # what no start reads: 64 of 356 MB
    local packages=$venv/lib/python$version/site-packages
    rm -rf "$packages"/{setuptools,pkg_resources,_distutils_hack,distutils-precedence.pth,setuptools-*} \
        "$packages"/ai_edge_litert/{tools,vendors,libLiteRtWebGpuAccelerator.so} "$packages"/cv2/data/*.xml
    find "$packages" -type d -name tests -prune -exec rm -rf {} +
}

write_launcher() {
    printf '#!%s\nimport sys\n\nsys.path[0] = "%s"\nfrom device.__main__ import main\n\nsys.exit(main())\n' \
        "$venv/bin/python" "$release" >"$release/bin/labelcam"
    chmod 755 "$release/bin/labelcam"
}

mark_whole() { echo "$release_id" >"$release/.complete"; }

prove_release() { # as the service's user, with the configuration that it will have
    local arguments=()
    [[ ! -e $config ]] || arguments=(--config "$config")
    change in_service "$release/bin/labelcam" doctor --self-test "${arguments[@]}" ||
        die 1 "${release##*/} does not pass its self-test here (see above); nothing was changed"
}

in_service() { (cd / && runuser -u labelcam -- env -i "PATH=$PATH" "HOME=$state" "STATE_DIRECTORY=$state" "$@" >&2); }
