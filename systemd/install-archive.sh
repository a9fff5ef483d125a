# shellcheck shell=bash disable=SC2034,SC2154
# The steps that take a release from one signed file, for boards without a network; install.sh
# sources this. systemd/pack-release.sh makes such a file, and minisign signs it.

check_archive() { # and keep it where nobody else writes, on the disk: /tmp is memory on small machines
    [[ -e $key ]] || die 1 "there is no key to check $archive by; put the maker's minisign.pub at $key"
    [[ -f $archive.minisig ]] || refuse "$archive.minisig is missing, and only a signed release is taken"
    box=$(mktemp -d "$root/var/tmp/labelcam.XXXXXX")
    undo+=("rm -rf '$box'")
    cp -- "$archive" "$box/release"
    cp -- "$archive.minisig" "$box/signature"
}

refuse() { # MESSAGE: also to the journal, as labelcam itself notes what bears on security
    logger -t labelcam -p auth.warning -- "security: refused: $*" 2>/dev/null || :
    die 1 "$*"
}

check_signature() { # as minisign makes it: Ed25519 over the BLAKE2b of the file, then over that and the comment
    is_key "$key" || die 1 "$key is no public key of minisign"
    [[ $(decoded "$box/signature" 2 0 2) == ED ]] || refuse "$archive.minisig is no signature of minisign (0.10 or later)"
    [[ $(decoded "$box/signature" 2 2 8 | base64) == "$(decoded "$key" 2 2 8 | base64)" ]] ||
        refuse "$archive is signed with another key than $key; it is not taken. If the maker's key has" \
            'changed, take the release that brought the new one first'
    # The key as OpenSSL reads it: the header of RFC 8410, then its 32 bytes.
    { printf '\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00' && decoded "$key" 2 10 32; } >"$box/key"
    decoded "$box/signature" 2 10 64 >"$box/first"
    decoded "$box/signature" 4 0 64 >"$box/second"
    # shellcheck disable=SC2059 # the digits become bytes
    printf "$(b2sum <"$box/release" | cut -c-128 | sed 's/../\\x&/g')" >"$box/digest"
    { cat "$box/first" && sed -n '3s/^trusted comment: //p' "$box/signature" | head -c -1; } >"$box/comment"
    { signed "$box/digest" "$box/first" && signed "$box/comment" "$box/second"; } ||
        refuse "$archive does not match its signature: altered, or damaged on the way; it is not taken"
}

is_key() { [[ $(decoded "$1" 2 0 2) == Ed && $(decoded "$1" 2 0 99 | wc -c) == 42 ]]; }

decoded() { # FILE LINE FROM COUNT: bytes of a line in base64
    sed -n "$2p" "$1" | base64 -d 2>/dev/null | tail -c "+$(($3 + 1))" | head -c "$4"
}

signed() { # FILE SIGNATURE
    openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$box/key" -in "$1" -sigfile "$2" >/dev/null 2>&1
}

unpack_archive() {
    local version
    mkdir "$box/unpacked"
    tar -xf "$box/release" -C "$box/unpacked" --strip-components 1 --no-same-owner ||
        die 1 "$archive is signed, and no archive; make it with systemd/pack-release.sh"
    [[ -x $box/unpacked/install.sh ]] || die 1 "$archive is signed, and holds no labelcam"
    version=$(version_in "$box/unpacked")
    [[ $(printf '%s\n' "$version" "$(version_in "$opt/current")" | sort -V | tail -n 1) == "$version" ]] ||
        refuse "$archive is $version, older than $(version_in "$opt/current") that is installed; --rollback goes back"
}

version_in() { sed -n 's/^__version__ = "\(.*\)"/\1/p' "$1/device/__init__.py"; }

check_next_key() { # which no later release could be checked by, were it not one
    next_key=$box/unpacked/systemd/release.pub
    [[ ! -e $next_key ]] || is_key "$next_key" || die 1 "$archive brings a release.pub that is no public key of minisign"
}

hand_over() { # to the installer that came with it
    local status=0
    "$box/unpacked/install.sh" --upgrade --offline "$box/unpacked/wheels" \
        ${dry_run:+--dry-run} ${runtime:+--runtime "$runtime"} || status=$?
    # Signed along with the release: from here on no other key opens anything.
    if ((status == 0)) && [[ -e $next_key ]]; then change place "$next_key" "$key"; fi
    rm -rf "$box"
    exit "$status"
}
