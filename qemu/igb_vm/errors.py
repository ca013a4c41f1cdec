"""The errors of igb_vm: each message is one clear line that says what to do."""


class VmError(Exception):
    """Something about QEMU, packages, the kernel or the network is missing or refused."""


class GuestError(VmError):
    """The guest died, didn't start, or didn't answer. `console` holds the end of what it last said."""

    def __init__(self, message: str, console: str = "") -> None:
        super().__init__(f"{message}\n--- end of the guest's console ---\n{console}" if console else message)
        self.console = console


class GuestTimeout(GuestError):
    """Something in the guest took longer than it was given."""
