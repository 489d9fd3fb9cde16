"""Starts the program that the package brings: `tqkv --help`."""
import os
import sys

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "tqkv")


def main():
    os.execv(PROGRAM, [PROGRAM, *sys.argv[1:]])
