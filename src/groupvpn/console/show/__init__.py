"""`show crypto …`: layouts that operators and their parsers know, made from status values alone.

Each module turns the status of one protocol into lines; `commands` binds them to the node. A function here never changes anything.
"""
