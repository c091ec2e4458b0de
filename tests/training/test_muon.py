import copy

import torch
from torch import nn

from ddpm_demo.training.muon import RMS, Muon, orthogonalise


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, 6), nn.Embedding(3, 2))
    return net.to(memory_format=torch.channels_last)


def test_the_singular_values_become_nearly_one():
    for shape in ((8, 24), (24, 8), (16, 16)):
        for low_precision in (False, True):
            matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
            u, _, v = torch.linalg.svd(matrix, full_matrices=False)
            other, found = orthogonalise(torch.stack([matrix.flip(0), matrix]), low_precision)
            torch.testing.assert_close(other.flip(0), found, atol=0.02, rtol=0)
            values = torch.linalg.svdvals(found)
            assert found.dtype == torch.float32 and values.min() > 0.3 and values.max() < 1.3
            assert nn.functional.cosine_similarity(found.flatten(), (u @ v).flatten(), 0) > 0.95


def test_a_first_step_is_orthogonal_and_of_adams_size():
    """A matrix moves along U V^T of its gradient; biases and embeddings move as under AdamW."""
    net, twin = small_net(), small_net()
    ours, theirs = Muon(net, lr=1e-3, fused=True), torch.optim.AdamW(twin.parameters(), 1e-3, fused=True)
    before = [p.detach().clone() for p in net.parameters()]
    for p, q in zip(net.parameters(), twin.parameters()):
        p.grad = torch.randn(p.shape)
        q.grad = p.grad.clone()
    gradients = [q.grad for q in twin.parameters()]
    ours.step()
    theirs.step()
    for p, q, start, gradient in zip(net.parameters(), twin.parameters(), before, gradients):
        if p.ndim < 2 or p.shape == (3, 2):
            assert torch.equal(p, q)
            continue
        expected = RMS * max(len(p), p[0].numel()) ** 0.5 * orthogonalise(gradient.flatten(1)[None]).reshape(p.shape)
        moved = (start * (1 - 1e-3 * 1e-2) - p) / 1e-3
        torch.testing.assert_close(moved, expected, rtol=1e-2, atol=1e-2)


def take_step(net, optimizer, seed):
    torch.manual_seed(seed)
    for p in net.parameters():
        p.grad = torch.randn(p.shape)
    optimizer.step()


def test_a_restored_state_continues_with_the_same_steps():
    net, twin = small_net(), small_net()
    ours, theirs = Muon(net, lr=1e-3, fused=True), Muon(twin, lr=1e-3, fused=True)
    take_step(net, ours, 1)
    twin.load_state_dict(net.state_dict())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    take_step(net, ours, 2)
    take_step(twin, theirs, 2)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), twin.parameters()))


def test_it_minimises():
    """A linear regression whose inputs differ in scale by a factor of 30."""
    torch.manual_seed(0)
    inputs, truth = torch.randn(256, 8) * torch.logspace(-1.5, 0, 8), torch.randn(8, 4)
    net = nn.Sequential(nn.Linear(8, 4))
    optimizer = Muon(net, lr=0.1, weight_decay=0.0)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 400)
        optimizer.zero_grad()
        error = (net(inputs) - inputs @ truth).square().mean()
        error.backward()
        optimizer.step()
    assert error < 1e-5
