"""Every core: processes that serve the same ports, each on sockets of its own, which their parent keeps.

`group.py` and what it uses is the parent's: `spread.py` opens the sockets, `supervision.py` judges, `handles.py` has a
process. `worker.py` is the worker's, a fresh program (``python -m udpservices.runtime.workers``). Both speak over
`channel.py`, describe services by `job.py`, and count on `page.py`.
"""
