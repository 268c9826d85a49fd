"""Building of candidates: threads, failures, rows."""

import torch

from repq_fx.analysis import LatencyStatistics
from repq_fx.cli.runtimes import Candidate, Workload, build_all, latency_rows


def workload(threads=1):
    return Workload(torch.nn.ReLU(), torch.ones(2, 1, 4, 4), torch.ones(6, 1, 4, 4), threads)


def test_calibration_comes_in_batches_of_the_timed_shape():
    assert [batch.shape for batch in workload().batches] == [(2, 1, 4, 4)] * 3


def test_built_and_tried_with_the_threads_asked_for():
    before, seen = torch.get_num_threads(), []

    def build(_):
        seen.append(torch.get_num_threads())
        return lambda: seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))

    runs, problems = build_all([Candidate("a", "torch", build)], workload(before + 1))
    assert list(runs) == ["a"]
    assert problems == {}
    assert seen == [before + 1, (before + 1, True)]
    assert torch.get_num_threads() == before


def test_one_that_fails_does_not_stop_the_others():
    def refuse(_):
        raise NotImplementedError

    def fails_when_called(_):
        def run():
            raise ValueError("\nbad shape\ndetails")

        return run

    candidates = [
        Candidate("absent", "x", refuse, ("no_such_package", "torch", "nor_this")),
        Candidate("refuses", "x", refuse),
        Candidate("fails", "x", fails_when_called),
        Candidate("works", "x", lambda work: work.images.sum),
    ]
    runs, problems = build_all(candidates, workload())
    assert list(runs) == ["works"]
    assert problems == {
        "absent": "not installed: pip install no_such_package nor_this",
        "refuses": "NotImplementedError",
        "fails": "ValueError: bad shape",
    }


def test_speed_up_is_over_the_baseline():
    latency = {"slow": LatencyStatistics(7.0, 8.0, 9.0), "fast": LatencyStatistics(1.0, 2.0, 3.0)}
    problems = {"broken": "no kernel"}
    rows = latency_rows(["slow", "fast", "broken"], latency, problems, baseline="slow")
    assert [row.get("speedup") for row in rows] == [1.0, 4.0, None]
    assert (rows[2].get("latency_ms"), rows[2].get("problem")) == (None, "no kernel")
    (alone,) = latency_rows(["slow"], latency, {}, baseline="other")
    assert alone.get("speedup") is None
