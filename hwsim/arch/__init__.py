"""Machines: arrays of units with their memories; in how many cycles, and with how much traffic, they run layers."""

from hwsim.arch.machine import Machine, MachineSpec, load_machine, machine_names
from hwsim.arch.memory import dram_action, sram_action
from hwsim.arch.simulate import GemmShape, LayerReport, MachineReport, simulate
from hwsim.yaml_file import ConfigError

__all__ = [
    "ConfigError",
    "GemmShape",
    "LayerReport",
    "Machine",
    "MachineReport",
    "MachineSpec",
    "dram_action",
    "load_machine",
    "machine_names",
    "simulate",
    "sram_action",
]
