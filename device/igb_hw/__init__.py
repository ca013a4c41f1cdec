"""The 82576 datasheet as data: registers, descriptors, NVM, PHY and PCI facts. No behaviour, and no I/O."""
