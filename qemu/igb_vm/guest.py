"""A guest: boot it, run commands in it, copy files, ask QEMU by QMP, end it.

Commands go over virtio-serial ports to agent.sh, so what the console says doesn't matter; it's kept for failures. The
sockets to QEMU are socket pairs and the console is a memfd: a guest leaves nothing on disk, however it ends.
"""

import json
import os
import queue
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from igb_vm import accel as accelerator
from igb_vm import initramfs, process
from igb_vm.agent import Port, PortClosed, PortTimeout
from igb_vm.errors import GuestError, GuestTimeout, VmError
from igb_vm.kernel import Kernel, get_kernel
from igb_vm.monitor import Monitor
from igb_vm.qemu import Qemu, get_qemu

_PORTS = 5  # so many commands run at once, less the one that ends those which take too long
_KILL_SECONDS = 15.0
_TAIL = 4000  # characters of the console in an error
_KERNEL_ARGUMENTS = (
    "console=ttyS0 quiet panic=-1 oops=panic mitigations=off audit=0 random.trust_cpu=on rcupdate.rcu_expedited=1 "
    "8250.nr_uarts=1 no_timer_check tsc=reliable nokaslr net.ifnames=0"
)


@dataclass(frozen=True)
class Result:
    """What a command in the guest gave: exit status, output (with errors if merged), errors, and seconds it took."""

    status: int
    output: str
    errors: str
    seconds: float
    raw: bytes  # the output as it came


class Guest:
    """A guest under QEMU. A context manager: it's started on entry and ended on exit.

    qemu, kernel: found or fetched if not given. memory: as QEMU writes it; it's shared memory (memfd), which vfio-user
    needs. devices: for -device, each a mapping (passed as JSON) or QEMU's own text. arguments: more of QEMU's. append:
    more of the kernel's. accel: "kvm" or "tcg", "auto" for KVM where it truly works. modules, packages, programs and
    files: see `initramfs.build`. load: modules to load at boot (igb isn't, by default). pass_fds: kept open for QEMU.
    console: a file for the console instead of memory. terminal: a shell in the guest on this process's own terminal
    (see `wait`).
    """

    def __init__(
        self,
        *,
        qemu: Qemu | None = None,
        kernel: Kernel | None = None,
        memory: str = "512M",
        smp: int = 1,
        accel: str = "auto",
        devices: Iterable[str | Mapping[str, Any]] = (),
        arguments: Sequence[str] = (),
        append: str = "",
        load: Sequence[str] = (),
        modules: Iterable[str] = (),
        packages: Sequence[str] = (),
        programs: Iterable[str] = (),
        files: Mapping[str, Path] | None = None,
        pass_fds: Sequence[int] = (),
        console: Path | None = None,
        terminal: bool = False,
        mirror: str | None = None,
    ) -> None:
        self._console = self._log = -1  # first: `__del__` looks at them even where the rest of this fails
        self.qemu = qemu or get_qemu(mirror=mirror)
        self.kernel = kernel or get_kernel(mirror=mirror)
        self.memory = memory
        self.smp = smp
        self.devices = [device if isinstance(device, str) else json.dumps(device) for device in devices]
        self.arguments = list(arguments)
        self.append = append
        self.load = list(load)
        self.pass_fds = list(pass_fds)
        self.accel = accel
        self.boot_seconds = 0.0  # from start() to the first answer
        self._initrd = initramfs.build(
            self.kernel, modules=[*modules, *load], packages=packages, programs=programs, files=files, mirror=mirror
        )
        self._console_path = console
        self._terminal = terminal
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: list[Port] = []
        self._free: queue.SimpleQueue[Port] = queue.SimpleQueue()
        self._monitor: Monitor | None = None
        self._hangs = False  # a port was given up on: what comes next from it would be an old answer

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self, timeout: float = 120.0) -> Self:
        """Start QEMU and wait until the guest answers. Raises GuestError, with the console's end, if it doesn't."""
        if self._process is not None:
            raise VmError("this guest was started before: make another one")
        self.accel = accelerator.choose(self.accel, self.qemu.version_text, self.kernel.release, self._boot_with_kvm)
        began = time.monotonic()
        if self._console_path is None:
            self._console = os.memfd_create("console")
        else:
            self._console = os.open(self._console_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._log = os.memfd_create("qemu")
        pairs = [socket.socketpair() for _ in range(_PORTS + 1)]
        self._monitor = Monitor(pairs[0][0])
        self._ports = [Port(f"agent{i}", ours) for i, (ours, _) in enumerate(pairs[1:])]
        try:
            command = self.command([theirs.fileno() for _, theirs in pairs])
            fds = [self._console, *(theirs.fileno() for _, theirs in pairs), *self.pass_fds]
            own = {"stdin": None, "stdout": None} if self._terminal else {"stdout": self._log}
            self._process = process.spawn(command, env=self.qemu.program.env, pass_fds=fds, stderr=self._log, **own)
        except OSError as error:
            self.close()
            raise GuestError(f"can't start QEMU: {error}") from None
        finally:
            for _, theirs in pairs:
                theirs.close()
        try:
            for port in self._ports:
                self._wait_ready(port, began + timeout)
        except BaseException as error:
            failure = self._start_failure(error, time.monotonic() - began)
            self.close()
            raise failure from None
        for port in self._ports[1:]:
            self._free.put(port)
        self.boot_seconds = time.monotonic() - began
        return self

    def command(self, fds: Sequence[int]) -> list[str]:
        """QEMU's command line; fds: the monitor's socket and the ports'."""
        shell = " igb_vm.shell" if self._terminal else ""
        load = f" igb_vm.load={','.join(self.load)}" if self.load else ""
        accel = "kvm" if self.accel == "kvm" else "tcg,thread=multi"
        cpu = "host" if self.accel == "kvm" else "max"
        words = [
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-machine", "q35,memory-backend=m,smm=off,vmport=off,i8042=off,sata=off,hpet=off"),
            *("-accel", accel, "-cpu", cpu, "-smp", str(self.smp), "-m", self.memory),
            *("-object", f"memory-backend-memfd,id=m,size={self.memory},share=on"),
            *("-kernel", str(self.kernel.vmlinuz), "-initrd", str(self._initrd)),
            *("-append", f"{_KERNEL_ARGUMENTS}{shell}{load} {self.append}".strip()),
            *("-chardev", f"file,id=console,path=/proc/self/fd/{self._console},append=on"),
            *("-serial", "chardev:console"),
            *("-chardev", f"socket,id=qmp,fd={fds[0]}", "-qmp", "chardev:qmp"),
            *("-device", "virtio-serial-pci,id=agents"),
        ]
        for index, fd in enumerate(fds[1:]):
            words += ["-chardev", f"socket,id=agent{index},fd={fd}"]
            words += ["-device", f"virtserialport,bus=agents.0,chardev=agent{index},name=agent{index}"]
        if self._terminal:
            words += ["-chardev", "stdio,id=terminal,signal=off", "-device", "virtconsole,chardev=terminal"]
        for device in self.devices:
            words += ["-device", device]
        return self.qemu.program.command(*words, *self.arguments)

    def run(
        self, command: str | Sequence[str], timeout: float = 60.0, merged: bool = True, check: bool = False
    ) -> Result:
        """Run a shell script, or a command in words, in the guest and wait for its end.

        merged: errors go into the output, in order. check: raise GuestError if the status isn't 0. Several threads may
        run commands at once (4 of them; more wait). Raises GuestTimeout, after killing the command, if it takes longer
        than `timeout` seconds, GuestError if the guest is gone.
        """
        script = command if isinstance(command, str) else shlex.join(command)
        began = time.monotonic()
        with self._port() as port:
            try:
                status, out, err = port.run(script, merged, began + timeout)
            except PortTimeout:
                out = self._end_command(port)
                said = out.decode(errors="replace")[-_TAIL:]
                raise GuestTimeout(
                    f"{script[:80]!r} took longer than {timeout:g} s in the guest; it said: {said}"
                ) from None
        output, errors = out.decode(errors="replace"), err.decode(errors="replace")
        if check and status != 0:
            raise GuestError(
                f"{script[:200]!r} ended with status {status} in the guest: {output[-_TAIL:]}{errors[-_TAIL:]}"
            )
        return Result(status, output, errors, time.monotonic() - began, out)

    def copy_in(self, data: bytes | Path, path: str, mode: int = 0o644, timeout: float = 60.0) -> None:
        """Write bytes, or a file of the host, to `path` in the guest. Raises GuestError."""
        contents = data.read_bytes() if isinstance(data, Path) else data
        path = _checked(path)
        with self._port() as port:
            status, said = self._timed(lambda deadline: port.put(path, contents, mode, deadline), timeout)
        if status != 0:
            raise GuestError(f"can't write {path} in the guest: {said.decode(errors='replace').strip()}")

    def copy_out(self, path: str, timeout: float = 60.0) -> bytes:
        """The contents of a file in the guest. Raises GuestError."""
        path = _checked(path)
        with self._port() as port:
            status, data = self._timed(lambda deadline: port.get(path, deadline), timeout)
        if status != 0:
            raise GuestError(f"can't read {path} in the guest: {data.decode(errors='replace').strip()}")
        return data

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU by QMP; what it returns. Raises GuestError if QEMU refuses or is gone."""
        if self._monitor is None:
            raise GuestError("the guest isn't running")
        return self._monitor.execute(command, arguments)

    @property
    def pid(self) -> int:
        """QEMU's process."""
        if self._process is None:
            raise GuestError("the guest isn't running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether QEMU is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def console(self) -> str:
        """All that the guest has said on its console so far."""
        return _contents(self._console)

    @property
    def log(self) -> str:
        """All that QEMU itself has said so far."""
        return _contents(self._log)

    def reset(self, timeout: float = 120.0) -> None:
        """Press the machine's reset button, and wait until the guest answers again.

        No command may be running. Raises GuestError if it doesn't come back.
        """
        deadline = time.monotonic() + timeout
        self.qmp("set-action", reboot="reset")  # else -no-reboot, which is for panics, ends QEMU
        self.qmp("system_reset")
        try:
            for port in self._ports:
                self._wait_ready(port, deadline)
        except (PortClosed, PortTimeout):
            raise self._failure("the guest didn't come back after a reset") from None
        self.qmp("set-action", reboot="shutdown")

    def shutdown(self, timeout: float = 20.0) -> None:
        """Switch the guest off in order and wait until QEMU has ended. Raises GuestTimeout if it doesn't end."""
        if self._process is None:
            return
        try:
            with self._port() as port:
                port.run("poweroff -f", True, time.monotonic() + timeout)
        except (GuestError, PortTimeout):
            pass  # it went off before it answered, which is the usual case
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestTimeout(f"the guest didn't switch off within {timeout:g} s", self.console[-_TAIL:]) from None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the guest is off, where it goes by itself when one leaves the `terminal`. Raises GuestTimeout."""
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise GuestTimeout(f"the guest is still on after {timeout:g} s") from None

    def close(self) -> None:
        """End QEMU, whatever state the guest is in. Console and log stay readable. May be called again."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process is not None:
            process.end(self._process)
        for port in self._ports:
            port.close()

    def __del__(self) -> None:
        for fd in (self._console, self._log):
            if fd >= 0:
                os.close(fd)

    @contextmanager
    def _port(self) -> Iterator[Port]:
        if not self.alive:
            raise self._failure("the guest isn't running")
        if self._hangs:
            raise self._failure("the guest hangs")
        port = self._free.get()
        try:
            yield port
        except PortClosed:
            raise self._failure("the guest is gone") from None
        finally:
            self._free.put(port)

    def _wait_ready(self, port: Port, deadline: float) -> None:
        while True:
            try:
                return port.wait_ready(min(deadline, time.monotonic() + 1.0))
            except PortTimeout:
                # QEMU stops the guest then, and stays.
                if time.monotonic() >= deadline or "KVM internal error" in self.log:
                    raise

    def _start_failure(self, error: BaseException, seconds: float) -> BaseException:
        if isinstance(error, PortClosed):
            return self._failure("QEMU ended before the guest answered")
        if isinstance(error, PortTimeout):
            return self._failure(f"the guest didn't answer within {seconds:.0f} s")
        return error

    def _boot_with_kvm(self, timeout: float) -> None:
        """Boot a guest of the same kernel with no devices under KVM. Raises GuestError if it doesn't answer."""
        guest = Guest(qemu=self.qemu, kernel=self.kernel, accel="kvm")
        try:
            guest.start(timeout)
            guest.run("true", timeout)
        finally:
            guest.close()

    def _end_command(self, port: Port) -> bytes:
        """Kill the command that `port` runs, through the port kept for this; what it had said."""
        deadline = time.monotonic() + _KILL_SECONDS
        try:
            self._ports[0].run(f"kill -9 -$(cat /run/{port.name}/pid)", True, deadline)
            return port.answer(deadline)[1]
        except PortTimeout:
            self._hangs = True
            raise self._failure("a command took too long, and the guest doesn't react any more") from None

    def _timed(self, request: Callable[[float], tuple[int, bytes]], timeout: float) -> tuple[int, bytes]:
        try:
            return request(time.monotonic() + timeout)
        except PortTimeout:
            self._hangs = True
            raise self._failure(f"copying a file took longer than {timeout:g} s") from None

    def _failure(self, what: str) -> GuestError:
        """The error for `what`, with all that helps to understand it."""
        if self._process is not None:
            try:
                status = self._process.wait(0.5)
                what += f" (QEMU's exit status {status})"
            except subprocess.TimeoutExpired:
                pass
        if said := self.log.strip():
            what += f"; QEMU said: {said[-_TAIL:]}"
        return GuestError(what, self.console[-_TAIL:])


def _contents(fd: int) -> str:
    if fd < 0:
        return ""
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")


def _checked(path: str) -> str:
    if not path.startswith("/") or "\n" in path or path != " ".join(path.split()):
        raise VmError(f"{path!r} is no usable path in the guest: absolute, single spaces at most")
    return path
