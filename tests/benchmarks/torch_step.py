"""The train step of `sfjax.train` once more in PyTorch, to hold its speed against: one device, compiled on a GPU.

The same network, waves, log-Mel, loss, clipping, Adam and parameter average. Two things are left out to its
advantage: the ALiBi bias is made once and kept, and there is no padding to mask, because all examples are whole.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sfjax import audio, flow, transformer

EPS = 1e-6  # of LayerNorm, as in Flax


class Block(nn.Module):
    """A pre-LayerNorm layer; with `skip` it takes in the input of an earlier one."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float, skip: bool):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        if skip:
            self.skip = nn.Linear(2 * width, width)
        self.attention_norm, self.ffn_norm = nn.LayerNorm(width, EPS), nn.LayerNorm(width, EPS)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, ffn), nn.Linear(ffn, width)

    def forward(self, x: torch.Tensor, bias: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        if kept is not None:
            x = self.skip(torch.cat([x, kept], dim=-1))
        h = self.attention_norm(x)
        split = lambda layer: layer(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        h = functional.scaled_dot_product_attention(
            split(self.query), split(self.key), split(self.value), attn_mask=bias.to(h.dtype)
        )
        x = x + self.out(h.transpose(1, 2).flatten(2))
        h = functional.gelu(self.up(self.ffn_norm(x)))
        return x + self.down(functional.dropout(h, self.dropout, self.training))


class Estimator(nn.Module):
    """`sfjax.model.Estimator`, its modules named alike; options that trade time for memory are not looked at."""

    def __init__(self, *, mels, width, layers, heads, ffn, dropout, conv_kernel, conv_groups, conv_depth, frames, **_):
        super().__init__()
        self.width = width
        self.input, self.output = nn.Linear(2 * mels, width), nn.Linear(width, mels)
        self.position = nn.ModuleDict(
            {
                f"conv_{i}": nn.Conv1d(width, width, conv_kernel, padding="same", groups=conv_groups)
                for i in range(conv_depth)
            }
        )
        self.time_scale = nn.Parameter(torch.ones(()))
        half = lambda skip: nn.ModuleList(Block(width, heads, ffn, dropout, skip) for _ in range(layers // 2))
        norm = nn.LayerNorm(width, EPS)
        self.transformer = nn.ModuleDict({"early": half(False), "late": half(True), "norm": norm})
        places = jnp.arange(frames + 1)
        bias = np.asarray(transformer.alibi(places, places, heads=heads, lead=1))
        self.register_buffer("bias", torch.tensor(bias)[None])

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        h = self.input(torch.cat([x, condition], dim=-1))
        p = h
        for conv in self.position.values():
            p = conv(p.transpose(1, 2)).transpose(1, 2)
            p = functional.gelu(functional.layer_norm(p, (self.width,), eps=EPS))
        token = self.time_scale * self._time(t)
        h = torch.cat([token[:, None].to(h.dtype), h + p], dim=1)
        kept = []
        for block in self.transformer["early"]:
            kept.append(h)
            h = block(h, self.bias, None)
        for block in self.transformer["late"]:
            h = block(h, self.bias, kept.pop())
        return self.output(self.transformer["norm"](h)[:, 1:]).float()

    def _time(self, t: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        omega = 10000.0 ** (-torch.arange(half, device=t.device) / (half - 1))
        angle = 1000.0 * t[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


def copied(network: Estimator, params: Any) -> Estimator:
    """`network` with the parameters of the Flax one."""
    state = {}

    def visit(path, node):
        if isinstance(node, dict):
            for name, child in node.items():
                visit([*path, name], child)
            return
        name = {"kernel": "weight", "scale": "weight"}.get(path[-1], path[-1])
        turn = np.transpose if path[-1] == "kernel" else np.asarray
        if {"early", "late"} & set(path):  # layers are stacked there, a list here
            for i, leaf in enumerate(np.asarray(node)):
                state[".".join([*path[:2], str(i), *path[2:-1], name])] = torch.tensor(turn(leaf))
        else:
            state[".".join([*path[:-1], name])] = torch.tensor(turn(np.asarray(node)))

    visit([], params)
    network.load_state_dict(state | {"bias": network.bias})
    return network


class LogMel(nn.Module):
    """`sfjax.audio.log_mel` of waves of whole hops."""

    def __init__(self, spec: audio.MelSpec):
        super().__init__()
        self.spec = spec
        self.register_buffer("window", torch.hann_window(spec.window))
        self.register_buffer("filters", torch.tensor(audio.filterbank(spec)))

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        spec, edge = self.spec, (self.spec.n_fft - self.spec.hop) // 2
        wav = functional.pad(wav[:, None], (edge, edge), mode="reflect")[:, 0]
        sizes = (spec.n_fft, spec.hop, spec.window)
        spectrum = torch.stft(wav, *sizes, self.window, center=False, return_complex=True)
        mel = torch.einsum("mk,bkf->bfm", self.filters, (spectrum.abs().square() + audio.TINY).sqrt())
        return (mel.clamp(min=spec.floor).log() - spec.mean) / spec.std


def step(
    network: Estimator, config: Any, spec: audio.MelSpec, waves: dict[str, np.ndarray], device: str
) -> Callable[[], None]:
    """A function that makes one update of `network` on the given waves [batch, samples] and waits until it is done."""
    network, log_mel = network.to(device).train(), LogMel(spec).to(device)
    waves = {name: torch.tensor(wav, device=device) for name, wav in waves.items()}
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    betas = (config.optim.b1, config.optim.b2)
    adam = torch.optim.Adam(parameters, lr=config.optim.peak, betas=betas, fused=True)
    half = torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16")
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32, as XLA has it on a GPU
        network.compile()

    def run() -> None:
        x1, condition = log_mel(waves["speech"]), log_mel(waves["noisy"])
        batch = len(x1)
        condition = condition * (torch.rand(batch, 1, 1, device=device) >= config.task.drop)
        x0, t = torch.randn_like(x1), torch.rand(batch, device=device)
        at = t[:, None, None]
        xt = (1 - (1 - flow.SIGMA) * at) * x0 + at * x1
        with half:
            v = network(xt, t, condition)
        loss = (v - (x1 - (1 - flow.SIGMA) * x0)).square().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.optim.clip)
        adam.step()
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - config.ema)
        float(loss.detach())  # waits for the device
        if device == "cuda":
            torch.cuda.synchronize()

    return run
