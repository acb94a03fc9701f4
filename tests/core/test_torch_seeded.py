"""Seeding torch's own generator, which all threads share."""

import threading

import torch

from ddlight.core.randomness import torch_seeded


def test_draws_are_the_seeds_and_leave_no_trace():
    before = torch.get_rng_state()
    with torch_seeded(3):
        drawn = torch.rand(4)
    torch.testing.assert_close(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_threads_do_not_draw_from_each_other():
    def draw(seed):
        with torch_seeded(seed):
            parts = [torch.rand(1) for _ in range(200)]
        found[seed] = torch.cat(parts)

    found = {}
    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, drawn in found.items():
        rng = torch.Generator().manual_seed(seed)
        assert torch.equal(drawn, torch.cat([torch.rand(1, generator=rng) for _ in range(200)]))
