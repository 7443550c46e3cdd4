"""The pure core: a micro-batch and its shards in, states, lists and dead letters out.

NumPy, Numba and ONNX Runtime only. Must not know: Kafka, Faust, asyncio, settings files.
"""
