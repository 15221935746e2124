"""The composite measures of enhanced speech: signal distortion, background intrusiveness and overall quality.

They are regressions on PESQ and three distances between short-time spectra (Hu & Loizou, "Evaluation of objective
quality measures for speech enhancement", 2007). This module computes them like the authors' own program, quirks
included, because published figures come from that program. Recordings must be in [-1, 1], because the floor of the band
energies is absolute.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sfjax.metrics.perceptual import Unscorable, pesq_wb, scorable

RATE = 16_000  # Hz
WINDOW = 480  # samples, 30 ms
HOP = WINDOW // 4
ORDER = 16  # order of the linear prediction
NFFT = 1024  # the power of two at or above two windows
KEPT = 0.95  # the two spectral distances are means over this share of the frames, the frames of least distance
SEGMENTAL_SNR = (-10.0, 35.0)  # dB, clipped per frame

# Centres and widths in Hz of the critical bands of the weighted spectral slope (Klatt 1982).
CENTRES = np.array([
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54,
    1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])  # fmt: skip
WIDTHS = np.array([
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
    183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])  # fmt: skip


class Composite(NamedTuple):
    """CSIG, CBAK and COVL (1 to 5, higher is better), and the distances behind them; `segsnr` is in dB."""

    csig: float
    cbak: float
    covl: float
    llr: float
    wss: float
    segsnr: float


def composite(
    reference: Float[np.ndarray, " samples"], estimate: Float[np.ndarray, " _"], rate: int, *, pesq: float | None = None
) -> Composite:
    """Compute the composite measures of an estimate; `pesq` is its wide-band PESQ (computed here if it is None).

    `rate` must be 16000 Hz. Raises `Unscorable` as `scorable` does, or if a measure is not finite. Source: Hu & Loizou
    2007.
    """
    reference, estimate = scorable(reference, estimate, rate, rates=(RATE,))
    pesq = pesq_wb(reference, estimate, rate) if pesq is None else pesq
    clean, degraded = _frames(reference), _frames(estimate)
    with np.errstate(divide="ignore", invalid="ignore"):  # values that are not finite raise an error below
        llr = _mean_of_lowest(log_likelihood_ratio(clean, degraded))
        wss = _mean_of_lowest(weighted_spectral_slope(clean, degraded))
        segsnr = float(segmental_snr(clean, degraded).mean())
    if not np.isfinite([llr, wss, segsnr]).all():
        raise Unscorable(f"the composite is not finite: LLR {llr}, WSS {wss}, segmental SNR {segsnr}")
    return Composite(*regression(pesq=pesq, llr=llr, wss=wss, segsnr=segsnr), llr, wss, segsnr)


def regression(*, pesq: float, llr: float, wss: float, segsnr: float) -> tuple[float, float, float]:
    """Compute CSIG, CBAK and COVL, clipped to 1..5, from the four measures of the regression.

    Source: Hu & Loizou 2007, with the coefficients of the authors' program.
    """
    csig = 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss
    cbak = 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * segsnr
    covl = 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss
    csig, cbak, covl = np.clip([csig, cbak, covl], 1.0, 5.0).tolist()
    return csig, cbak, covl


def log_likelihood_ratio(
    clean: Float[np.ndarray, "frames window"], degraded: Float[np.ndarray, "frames window"]
) -> Float[np.ndarray, " frames"]:
    """Compute the log-likelihood ratio of each frame, not clipped.

    It is the log ratio of two prediction errors (energies) on the clean frame: the error of the degraded frame's
    predictor to the error of the clean frame's own predictor. Source: Quackenbush et al. 1988, as in Hu & Loizou
    2007, Eq. 3.
    """
    correlation, clean_predictor = _linear_prediction(clean)
    _, degraded_predictor = _linear_prediction(degraded)
    lags = np.arange(ORDER + 1)
    toeplitz = correlation[:, abs(lags[:, None] - lags)]
    degraded_error, clean_error = (
        np.einsum("fi,fij,fj->f", predictor, toeplitz, predictor) for predictor in (degraded_predictor, clean_predictor)
    )
    return np.log(degraded_error / clean_error)


def weighted_spectral_slope(
    clean: Float[np.ndarray, "frames window"], degraded: Float[np.ndarray, "frames window"]
) -> Float[np.ndarray, " frames"]:
    """Compute the weighted mean squared difference, in dB², of the slopes between neighbouring critical bands.

    Source: Klatt 1982, as in Hu & Loizou 2007, Eq. 5.
    """
    clean, degraded = _band_energies(clean), _band_energies(degraded)
    weight = (_slope_weights(clean) + _slope_weights(degraded)) / 2
    difference = np.diff(clean) - np.diff(degraded)
    return (weight * difference**2).sum(axis=1) / weight.sum(axis=1)


def segmental_snr(
    clean: Float[np.ndarray, "frames window"], degraded: Float[np.ndarray, "frames window"]
) -> Float[np.ndarray, " frames"]:
    """Compute the signal-to-noise ratio of each frame in dB, clipped to -10..35. Source: Hu & Loizou 2007, Eq. 2."""
    tiny = np.finfo(np.float64).eps
    signal, noise = (clean**2).sum(axis=1), ((clean - degraded) ** 2).sum(axis=1)
    return np.clip(10 * np.log10(signal / (noise + tiny) + tiny), *SEGMENTAL_SNR)


def _frames(wav: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frames window"]:
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, WINDOW + 1) / (WINDOW + 1)))
    count = (len(wav) - WINDOW) // HOP  # without the last whole frame, as in the authors' program
    wav = wav + np.finfo(np.float64).eps  # so that digital silence has a predictor
    return np.lib.stride_tricks.sliding_window_view(wav, WINDOW)[::HOP][:count] * window


def _mean_of_lowest(distance: Float[np.ndarray, " frames"]) -> float:
    count = int(np.floor(KEPT * len(distance) + 0.5))  # halves go up, unlike Python's round
    return float(np.sort(distance)[:count].mean())


def _linear_prediction(
    frames: Float[np.ndarray, "frames window"],
) -> tuple[Float[np.ndarray, "frames lags"], Float[np.ndarray, "frames lags"]]:
    """Return the autocorrelation and the prediction polynomial of all frames, by the Levinson–Durbin recursion."""
    power = abs(np.fft.rfft(frames, NFFT)) ** 2  # NFFT is long enough that no lag wraps round
    correlation = np.fft.irfft(power, NFFT)[:, : ORDER + 1]
    predictor = np.zeros_like(correlation)
    predictor[:, 0] = 1
    error = correlation[:, 0].copy()
    for order in range(1, ORDER + 1):
        reflection = -(predictor[:, :order] * correlation[:, order:0:-1]).sum(axis=1) / error
        predictor[:, 1 : order + 1] += reflection[:, None] * predictor[:, order - 1 :: -1]
        error *= 1 - reflection**2
    return correlation, predictor


def _band_energies(frames: Float[np.ndarray, "frames window"]) -> Float[np.ndarray, "frames bands"]:
    """Return the energy of each critical band in dB."""
    centres, widths = (hertz * NFFT / RATE for hertz in (CENTRES, WIDTHS))  # in bins
    bins = np.arange(NFFT // 2)
    distance = (bins - np.floor(centres)[:, None]) / widths[:, None]
    bands = np.exp(-11 * distance**2) * widths[0] / widths[:, None]
    bands[bands <= np.exp(-30 / (2 * 2.303))] = 0
    power = abs(np.fft.rfft(frames, NFFT)[:, : NFFT // 2]) ** 2
    return 10 * np.log10(np.maximum(power @ bands.T, 1e-10))


def _slope_weights(energy: Float[np.ndarray, "frames bands"]) -> Float[np.ndarray, "frames slopes"]:
    """Return the weight of each slope: larger near the loudest band (20 dB) and near the closest peak (1 dB)."""
    slope = np.diff(energy)
    count = slope.shape[1]
    index = np.arange(count)
    # A rising slope has its peak to the right, at the first slope that falls. Like the authors' program, this takes the
    # band before it.
    falling = np.minimum.accumulate(np.where(slope <= 0, index, count)[:, ::-1], axis=1)[:, ::-1]
    # A falling slope has its peak to the left, just after the last rise.
    rising = np.maximum.accumulate(np.where(slope > 0, index, -1), axis=1)
    peak = np.take_along_axis(energy, np.where(slope > 0, falling - 1, rising + 1), axis=1)
    level = energy[:, :-1]
    return 20 / (20 + energy.max(axis=1, keepdims=True) - level) / (1 + peak - level)
