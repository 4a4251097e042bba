"""The tables on disk: their schema, the paths of a run, atomic writing, bounded-memory reading, the Recorder.

One run directory holds one trained student. Rows become readable part by part, each under its final name
only when it is whole, and ``done.json`` says last of all that the run is complete and what it consists of.
"""
