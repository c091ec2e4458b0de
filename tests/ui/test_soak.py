"""A short soak. ``PYTHONPATH=. python tests/soak.py --requests 3000`` is the long one."""

import pytest
from soak import soak


@pytest.mark.slow
def test_a_soak_leaves_no_memory_no_file_and_no_thread():
    found = soak(600)
    # 300 requests after the warm-up: a leak of 0.38 MB a request, as without a limit of sessions, would be 380.
    assert found["slope after the warm-up, MB per 1,000 requests"] < 60
    assert found["files left after its end"] == 0
    first, second = found["threads, most in each half"]
    assert second <= first + 2
