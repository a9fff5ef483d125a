"""install.sh takes a release from one file that is signed as minisign does, and no other.

Keys and signatures are OpenSSL's here, and in one test minisign's own.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.install.test_install import check_failure
from tests.install.test_install_service import System

pytestmark = pytest.mark.slow

TOOLS = ["b2sum", "base64", "head", "openssl", "tar", "wc"]


class Maker:
    """Whoever signs releases; the number in the key tells one from another."""

    def __init__(self, folder: Path, number: bytes) -> None:
        self.folder = folder
        self.number = number
        self.key = folder / f"{number.hex()}.pem"
        self._openssl("genpkey", "-algorithm", "ed25519", "-out", self.key)
        public = self._openssl("pkey", "-in", self.key, "-pubout", "-outform", "DER")[-32:]
        text = base64.b64encode(b"Ed" + number + public).decode()
        self.public = f"untrusted comment: minisign public key\n{text}\n"

    def _openssl(self, *arguments: str | Path) -> bytes:
        return subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout

    def _sign(self, what: bytes) -> bytes:
        file = self.folder / "what"
        file.write_bytes(what)
        return self._openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.key, "-in", file)

    def sign(self, file: Path, comment: str = "timestamp:1") -> None:
        first = self._sign(hashlib.blake2b(file.read_bytes()).digest())
        second = self._sign(first + comment.encode())
        lines = (
            "untrusted comment: signature",
            base64.b64encode(b"ED" + self.number + first).decode(),
            f"trusted comment: {comment}",
            base64.b64encode(second).decode(),
        )
        file.with_name(f"{file.name}.minisig").write_text("".join(f"{line}\n" for line in lines))


class Board(System):
    """A board with release 1.1.0, the maker's key, and a file of 1.2.0 that is signed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for tool in TOOLS:
            if not (self.bin / tool).exists():
                (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.program("logger", 'echo "${*: -1}" >>"$FAKE_LOG"')
        self.folder = folder
        self.maker = Maker(folder, b"12345678")
        self.stranger = Maker(folder, b"87654321")
        self.version("1.1.0")
        self.well()
        self.public = self.root / "etc/labelcam/release.pub"
        self.public.write_text(self.maker.public)
        self.file = folder / "the release.tar"
        self.signature = folder / "the release.tar.minisig"
        self.pack("1.2.0")

    def pack(self, version: str, signer: Maker | None = None, brings: str = "") -> None:
        """The checkout as a release of this version, with a wheel; the checkout stays."""
        self.version(version)
        (self.checkout / "wheels").mkdir(exist_ok=True)
        (self.checkout / "wheels/x.whl").touch()
        next_key = self.checkout / "systemd/release.pub"
        if brings:
            next_key.write_text(brings)
        subprocess.run(["tar", "-C", self.folder, "-cf", self.file, "check out"], check=True)
        next_key.unlink(missing_ok=True)
        shutil.rmtree(self.checkout / "wheels")
        self.version("1.1.0")
        (signer or self.maker).sign(self.file)

    def left(self) -> set[str]:
        """What installing left in the folder for it."""
        return {path.name for path in (self.root / "var/tmp").iterdir()}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: apt-get install openssl")
    return Board(tmp_path)


def test_a_signed_release_is_taken_with_its_wheels_by_its_own_installer(board: Board) -> None:
    board.done()
    board.well("--upgrade", str(board.file))
    assert (board.link("current"), board.link("previous")) == ("1.2.0", "1.1.0")
    pip = next(line for line in board.done() if line.startswith("pip"))
    assert "--no-index --find-links /var/tmp/labelcam." in pip
    assert board.left() == set()


def test_the_same_version_is_not_older(board: Board) -> None:
    board.pack("1.1.0")
    board.well("--upgrade", str(board.file))


def test_a_dry_run_changes_nothing(board: Board) -> None:
    before = board.files()
    result = board.run("--upgrade", str(board.file), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "would run: make_venv" in result.stdout
    assert board.files() == before


def _alter_file(board: Board) -> None:
    text = bytearray(board.file.read_bytes())
    text[len(text) // 2] ^= 1
    board.file.write_bytes(text)


def _alter_comment(board: Board) -> None:
    text = board.signature.read_text()
    board.signature.write_text(text.replace("timestamp:1", "timestamp:2"))


def _sign_by_a_stranger_in_our_name(board: Board) -> None:
    board.stranger.number = board.maker.number
    board.stranger.sign(board.file)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b.public.unlink(), ["there is no key to check"]),
        (lambda b: b.public.write_text("not a key\n"), ["is no public key"]),
        (lambda b: b.signature.unlink(), [".minisig is missing"]),
        (lambda b: b.signature.write_text(""), ["is no signature of minisign"]),
        (_alter_file, ["does not match its signature"]),
        (_alter_comment, ["does not match its signature"]),
        (_sign_by_a_stranger_in_our_name, ["does not match its signature"]),
        (lambda b: b.stranger.sign(b.file), ["signed with another key"]),
        (lambda b: b.pack("1.0.9"), ["is 1.0.9, older than 1.1.0", "--rollback"]),
        (lambda b: (b.file.write_text("x"), b.maker.sign(b.file)), ["signed, and no archive"]),
    ],
)
def test_no_other_file_is_taken(
    board: Board, damage: Callable[[Board], object], words: list[str]
) -> None:
    damage(board)
    before = board.files()
    check_failure(board.run("--upgrade", str(board.file)), 1, *words)
    assert board.files() == before
    assert board.link("current") == "1.1.0"
    assert board.left() == set()


@pytest.fixture
def rotated(board: Board) -> Board:
    """Release 1.2.0, of the old key, has brought the stranger's as the new one."""
    board.pack("1.2.0", brings=board.stranger.public)
    board.well("--upgrade", str(board.file))
    assert board.public.read_text() == board.stranger.public
    return board


def test_the_new_key_opens_what_comes_after_it(rotated: Board) -> None:
    rotated.pack("1.3.0", rotated.stranger)
    rotated.well("--upgrade", str(rotated.file))
    assert rotated.link("current") == "1.3.0"
    assert rotated.public.read_text() == rotated.stranger.public


def _alter_what_is_new(board: Board) -> None:
    board.pack("1.3.0", board.stranger)
    _alter_file(board)


def _sign_by_a_third(board: Board) -> None:
    board.pack("1.3.0", Maker(board.folder, b"third  3"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b.pack("1.3.0"), ["signed with another key", "brought the new one first"]),
        (lambda b: b.pack("1.3.0", brings=b.maker.public), ["signed with another key"]),
        (_sign_by_a_third, ["signed with another key"]),
        (_alter_what_is_new, ["does not match its signature"]),
        (lambda b: b.pack("1.1.9", b.stranger), ["is 1.1.9, older than 1.2.0"]),
    ],
)
def test_after_a_rotation_the_old_key_opens_nothing(
    rotated: Board, damage: Callable[[Board], object], words: list[str]
) -> None:
    damage(rotated)
    rotated.done()
    before = rotated.files()
    check_failure(rotated.run("--upgrade", str(rotated.file)), 1, *words)
    assert rotated.files() == before
    (line,) = rotated.done()
    assert line.startswith("security: refused: ")
    assert words[0] in line


def test_a_rollback_does_not_bring_the_old_key_back(rotated: Board) -> None:
    rotated.well("--rollback")
    assert rotated.link("current") == "1.1.0"
    assert rotated.public.read_text() == rotated.stranger.public


@pytest.mark.parametrize(
    ("signer", "brings", "words"),
    [
        # Signed by who is not trusted: the key in it is not even looked at.
        ("stranger", "stranger", "signed with another key"),
        ("maker", "not a key\n", "brings a release.pub that is no public key"),
    ],
)
def test_no_other_key_is_brought(board: Board, signer: str, brings: str, words: str) -> None:
    key = board.stranger.public if brings == "stranger" else brings
    board.pack("1.2.0", getattr(board, signer), key)
    before = board.files()
    check_failure(board.run("--upgrade", str(board.file)), 1, words)
    assert board.files() == before


def test_a_release_that_fails_leaves_the_key(board: Board) -> None:
    board.pack("1.2.0", brings=board.stranger.public)
    board.env["FAKE_DOCTOR"] = "1"
    assert board.run("--upgrade", str(board.file)).returncode == 1
    assert board.public.read_text() == board.maker.public


def test_the_first_key_comes_with_the_first_release_and_stays(board: Board) -> None:
    board.public.unlink()
    (board.checkout / "systemd/release.pub").write_text(board.maker.public)
    board.well()
    assert board.public.read_text() == board.maker.public
    (board.checkout / "systemd/release.pub").write_text(board.stranger.public)
    board.well()
    assert board.public.read_text() == board.maker.public


def test_what_minisign_signs_is_taken(board: Board) -> None:
    if not shutil.which("minisign"):
        pytest.skip("minisign is not installed: apt-get install minisign")
    secret = str(board.folder / "real.key")
    board.signature.unlink()
    for arguments in (
        ["-G", "-W", "-f", "-p", str(board.public), "-s", secret],
        ["-S", "-s", secret, "-m", str(board.file)],
    ):
        subprocess.run(["minisign", *arguments], check=True, capture_output=True)
    board.well("--upgrade", str(board.file))
    assert board.link("current") == "1.2.0"
