"""Carrel on a machine with control groups version 2 and nothing else, for machines that have not: a guest of QEMU, all of it emulated.

`make test-cgroup2`. QEMU, a kernel and busybox come from this machine's Debian archive as packages, unpacked into `.cache/cgroup2`,
never installed. The guest boots an initramfs of ours (`init`), which lays an overlay in memory over this machine's files, shared read-only
by 9p, and runs `guest.py` with the checkout's Python. Needs no root and no KVM, and takes some minutes on one processor.
"""

from __future__ import annotations

import compileall
import gzip
import lzma
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from carrel.backends import images
from carrel.config import load

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "cgroup2"
MEMORY_MIB = 3072
DEADLINE_S = 1800
PASSED = "guest: ended with 0"
_MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
_KERNEL = "linux-image-amd64"  # the cloud kernel has no 9p


def main() -> None:
    # No core of the host's is ours alone: QEMU's one thread steps back for everything else.
    os.nice(10)
    root = _unpacked()
    images.ensure("python-slim", _image_folder(), print)
    # The guest writes no bytecode, so each of its processes would compile our modules anew, which takes it seconds.
    compileall.compile_dir(HERE.parents[1] / "src", quiet=1)
    initramfs = CACHE / "initramfs.gz"
    initramfs.write_bytes(gzip.compress(b"".join(_archive(root)), 1))
    sys.exit(0 if _boot(root, initramfs) else 1)


def _image_folder() -> Path:
    return load({}, os.environ).images


# ---- packages ----------------------------------------------------------------------------------------------------------------


def _unpacked() -> Path:
    """QEMU, kernel and busybox, downloaded where they are not there yet."""
    root = CACHE / "root"
    if not root.is_dir():
        packages, unpacking = CACHE / "packages", CACHE / "unpacking"
        for folder in (packages, unpacking):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        subprocess.run(["apt-get", "download", *_needed()], cwd=packages, check=True)
        for package in packages.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, unpacking], check=True)
        shutil.rmtree(packages)
        unpacking.rename(root)
    return root


def _needed() -> list[str]:
    """The kernel that the meta package names, busybox, and of QEMU whatever is not installed here."""
    kernel = re.findall(r"Depends: (linux-image-\S+)", _output("apt-cache", "depends", _KERNEL))
    plan = _output("apt-get", "-s", "install", "--no-install-recommends", "qemu-system-x86")
    return [*kernel[:1], "busybox-static", *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)]


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


# ---- the guest's first files -------------------------------------------------------------------------------------------------


def _archive(root: Path) -> Iterator[bytes]:
    """A cpio archive ("newc"): busybox, `init`, the modules it loads and in which order."""
    modules = _modules(root)
    settings = {
        "MODULES": " ".join(modules),
        "PYTHON": sys.executable,
        "GUEST": HERE / "guest.py",
        "IMAGES": _image_folder(),
        "ONLY": " ".join(sys.argv[1:]),
    }
    yield _entry("bin", 0o040755)
    yield _entry("bin/busybox", 0o100755, (root / "bin/busybox").read_bytes())
    yield _entry("init", 0o100755, (HERE / "init").read_bytes())
    yield _entry("settings", 0o100644, "".join(f"{name}='{value}'\n" for name, value in settings.items()).encode())
    yield _entry("modules", 0o040755)
    for name, data in modules.items():
        yield _entry(f"modules/{name}", 0o100644, data)
    yield _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, data: bytes = b"") -> bytes:
    """One file. The kernel's Documentation/driver-api/early-userspace/buffer-format.rst has the fields."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _modules(root: Path) -> dict[str, bytes]:
    """The modules of `_MODULES` and what they need, in the order in which they can be loaded."""
    files = {_module_name(path): path for path in root.glob("**/lib/modules/*/kernel/**/*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:  # not there: built into the kernel
            return
        data = _read_module(files[name])
        for needed in re.findall(rb"\0depends=([^\0]*)\0", data)[0].decode().split(","):
            add(needed.replace("-", "_"))
        found[name] = data

    for name in _MODULES:
        add(name)
    return found


def _module_name(path: Path) -> str:
    return path.name.partition(".")[0].replace("-", "_")


def _read_module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


# ---- the guest ---------------------------------------------------------------------------------------------------------------


def _boot(root: Path, initramfs: Path) -> bool:
    """Run the guest to its end, its console on ours; whether it said that all went well."""
    found = shutil.which("qemu-system-x86_64")
    libraries = [path for path in (root / "usr/lib/x86_64-linux-gnu", root / "lib/x86_64-linux-gnu") if path.is_dir()]
    data = [argument for folder in ("qemu", "seabios") for argument in ("-L", str(root / "usr/share" / folder))]
    (kernel,) = root.glob("boot/vmlinuz-*")
    command = [
        found or str(root / "usr/bin/qemu-system-x86_64"),
        *([] if found else data),
        *("-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(kernel), "-initrd", str(initramfs)),
        # No control group version 1 anywhere, as on a machine of today; a panic ends QEMU.
        *(
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
        ),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
    ]
    environment = os.environ if found else {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return _relay(command, dict(environment))


def _relay(command: list[str], environment: dict[str, str]) -> bool:
    has_passed = False
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with subprocess.Popen(["timeout", str(DEADLINE_S), *command], env=environment, **quiet) as guest:  # type: ignore[call-overload]
        for line in guest.stdout or ():
            text = line.decode(errors="replace").rstrip()
            print(text, flush=True)
            has_passed = has_passed or text.endswith(PASSED)
    return has_passed


if __name__ == "__main__":
    main()
