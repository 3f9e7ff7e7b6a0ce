"""PEFT's folder layout: what a method writes into it, and reading and writing whole folders."""
