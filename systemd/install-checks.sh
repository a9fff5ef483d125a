# shellcheck shell=bash disable=SC2034,SC2154
# What is asked for, where the service lives, and what must hold before anything is changed;
# install.sh sources this.

root= # another one in tests
opt=$root/opt/labelcam
releases=$opt/releases
config=$root/etc/labelcam/config.toml
key=$root/etc/labelcam/release.pub # what signed releases are checked by
state=$root/var/lib/labelcam
password=$root/etc/credstore/labelcam.mqtt-password
units=$root/etc/systemd/system
rules=$root/etc/udev/rules.d/60-labelcam.rules
program=$root/usr/local/bin/labelcam

read_service_options() {
    action=install archive='' wheelhouse='' dry_run='' purge='' runtime=''
    while (($#)); do
        case $1 in
            --upgrade | --rollback | --uninstall)
                [[ $action == install ]] || die 2 "$1 and --$action do not go together"
                action=${1#--}
                [[ $action != upgrade || ${2:--} == -* ]] || { archive=$2 && shift; }
                ;;
            --offline)
                [[ -d ${2:-} ]] || die 2 "--offline takes a folder of wheels, not '${2:-}'"
                wheelhouse=$(cd "$2" && pwd)
                shift
                ;;
            --runtime)
                read_runtime "${2:-}"
                shift
                ;;
            --dry-run) dry_run=1 ;;
            --purge) purge=1 ;;
            *) die 2 "unknown option $1; --help lists them all" ;;
        esac
        shift
    done
    [[ -z $purge || $action == uninstall ]] || die 2 '--purge goes with --uninstall'
    [[ -z $archive || (-f $archive && -z $wheelhouse) ]] ||
        die 2 "--upgrade takes one signed file, with its wheels in it, not '$archive'${wheelhouse:+ and --offline}"
    [[ $action == @(install|upgrade) || -z $wheelhouse ]] || die 2 "--offline does not go with --$action"
    [[ $action == @(install|upgrade) || -z $runtime ]] || die 2 "--runtime does not go with --$action"
}

check_bits() { # of the system: a 64-bit kernel may carry a 32-bit one
    [[ $(getconf LONG_BIT) == 64 ]] ||
        die 1 "this system is 32-bit, whatever its kernel is ($(uname -m)), and the runtime is made for 64-bit;" \
            'put the 64-bit Raspberry Pi OS on the card (Pi 3, Zero 2 W or later): nothing was changed'
}

check_root() { [[ $(id -u) == 0 ]] || die 1 'a service is installed by root; run: sudo ./install.sh'; }

check_systemd() {
    [[ -d $root/run/systemd/system ]] ||
        die 1 'no systemd runs here, and the service needs it; ./install.sh --try does without'
    systemd=$(systemctl --version | awk 'NR == 1 { print $2 + 0 }')
    ((systemd >= 252)) || die 1 "systemd is $systemd, and 252 is needed: Debian 12 or later has it"
}

check_ours() {
    local home
    if [[ -e $opt || -L $opt ]]; then
        # An empty one is what an installation leaves that ended right there.
        [[ -f $opt/.labelcam || (-d $opt && ! -L $opt && -z $(ls -A "$opt")) ]] ||
            die 1 "$opt is not of this installer; move it away, then start again"
    fi
    if [[ -e $program || -L $program ]]; then
        [[ $(readlink "$program") == "$opt/current/bin/labelcam" ]] ||
            die 1 "$program is not of this installer; move it away, then start again"
    fi
    home=$(getent passwd labelcam | cut -d: -f6) || home=
    [[ -z $home || $home == "$state" ]] ||
        die 1 "there is a user labelcam with the home $home; the service needs the name for its own"
}

check_installed() {
    compgen -G "$releases/*/.complete" >/dev/null || die 1 'labelcam is not installed; run: sudo ./install.sh'
}

runtime_of() { cat "$1/.runtime" 2>/dev/null || echo auto; } # RELEASE

keep_runtime() { runtime=${runtime:-$(runtime_of "$opt/current")}; }

check_service_python() {
    local prefix
    find_python
    prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
    # The service sees no home directory.
    [[ $prefix != /home/* && $prefix != /root/* ]] ||
        die 1 "Python in $prefix is a user's own; install python3-venv of Debian, or name another in PYTHON="
}

check_places() {
    local place
    for place in "$root/opt" "$units" "${rules%/*}" "${program%/*}" "$root/etc" "${state%/*}"; do
        [[ -w $place ]] || die 1 "$place cannot be written (read-only?); mend that, then start again"
    done
}

check_opt_space() {
    local free needed=500
    [[ $runtime != tflite-runtime ]] || needed=400
    free=$(df -Pm "$root/opt" | awk 'END { print $4 }')
    ((free >= needed)) || die 1 "$root/opt has $free MB free and needs $needed; make room, then start again"
}

check_wheelhouse() {
    [[ -z $wheelhouse || -n $(find "$wheelhouse" -maxdepth 1 -name '*.whl' -print -quit 2>/dev/null) ]] ||
        die 2 "--offline $wheelhouse holds no wheels; make it where there is a network: pip download --only-binary :all: -r systemd/requirements.lock -d DIR"
}
