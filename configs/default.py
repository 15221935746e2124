"""Every knob of a run, its unit and its reason. The other configs are short differences from this one.

`get_config("tiny" | "box" | "small" | "base" | "large")` sizes the network. `large` is the paper's; `box` is a recipe,
too, for what two CPU cores can train. A section is the keyword arguments of one function, named beside it. All fields
can be overridden: `--config.optim.peak=1e-4`.
"""

from ml_collections import ConfigDict

SIZES = {  # width, layers, heads, ffn
    "tiny": (64, 4, 4, 256),  # 0.3 M parameters: a toy for one CPU
    "box": (256, 6, 4, 1280),  # 6 M: the models in the package
    "small": (384, 8, 6, 1536),  # 16 M: can be shipped
    "base": (768, 12, 12, 3072),  # 93 M
    "large": (1024, 24, 16, 4096),  # 330 M, SpeechFlow 4.1
}
BOX = {  # what learns most in an hour of two CPU cores: tests/benchmarks/README.md, "Speedrun"
    "model.dropout": 0.0,
    "model.patch": 2,
    "model.precondition": "flow",
    "model.attention_block": 0,
    "data.buckets": (4.0,),
    "data.seconds": 72.0,
    "optim.muon": 10.0,
    "optim.peak": 2e-3,
    "optim.end": 1e-4,
    "optim.warmup": 200,
    "optim.updates": 5000,
    "optim.clip": 1.0,
    "ema": 0.998,
    "run.workers": 1,
    "run.log": 50,
    "run.validate": 500,
    "run.save": 100,
    "run.pictures": 2,
}


def get_config(size: str = "large") -> ConfigDict:
    """The paper's pre-training (SpeechFlow 4.1 and Table 5), with the network of `size`."""
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; choose from {', '.join(SIZES)}")
    width, layers, heads, ffn = SIZES[size]
    config = ConfigDict()
    config.seed = 0  # of initial parameters, masks, noise, times and dropout
    config.init_from = ""  # run folder whose parameters (EMA) a new run starts from
    config.process = "flow"  # or diffusion, to compare with; see sfjax.process.PROCESSES
    config.precision = "bf16" if size in ("base", "large") else "fp32"  # or fp16; see sfjax.precision.POLICIES

    # sfjax.audio.MelSpec (Voicebox A.1, A.3)
    config.mel = ConfigDict()
    config.mel.sample_rate = 16000  # Hz
    config.mel.n_fft = 1024
    config.mel.window = 640  # samples: 40 ms
    config.mel.hop = 160  # samples: 100 frames a second
    config.mel.bands = 80
    config.mel.low = 0.0  # Hz
    config.mel.high = 8000.0
    config.mel.floor = 1e-5  # 1e-3 would cost 0.9 PESQ
    config.mel.mean = -5.8843  # of the natural logarithm, over speech
    config.mel.std = 2.2615

    # sfjax.model.Estimator
    config.model = ConfigDict()
    config.model.width = width
    config.model.layers = layers
    config.model.heads = heads
    config.model.ffn = ffn
    config.model.dropout = 0.1  # of activations inside the FFN
    config.model.conv_kernel = 15  # ConvPos width 31 read as data2vec 2.0 does: 31 // 2; 31 for the other reading
    config.model.conv_groups = 16
    config.model.conv_depth = 2
    config.model.patch = 1  # frames in a token; the paper's 1; 2 halves the cost of a step
    config.model.precondition = "none"  # the paper's; flow: input and output are scaled by time, see sfjax.flow.scales
    config.model.residual = (
        False  # as in the paper; True: the network adds to the condition, to clean what is nearly clean
    )
    config.model.attention_block = 256  # queries whose scores are held at once; 0: all
    config.model.remat = "full" if size in ("base", "large") else "none"  # none, dots or full: memory for time
    config.model.unroll = 1 if size in ("base", "large") else layers // 2  # layers laid out in a scan step

    # sfjax.tasks.make
    config.task = ConfigDict()
    config.task.name = "pretrain"
    config.task.drop = 0.1  # probability that the whole condition is dropped
    config.task.fraction = (0.7, 1.0)  # of the frames that are hidden
    config.task.shortest = 10  # frames in a hidden span

    # sfjax.data.loader
    config.data = ConfigDict()
    config.data.train = ""  # manifests with weights, as in a.parquet:10,b.parquet:1
    config.data.valid = ""  # the same for validation; "": the valid split of data.train
    config.data.split = "train"
    config.data.valid_split = "valid"
    config.data.buckets = (4.0, 8.0, 12.0, 16.0)  # seconds: the lengths of batches; longer utterances are cropped
    config.data.seconds = 2400.0  # of a global batch: 32 devices × 75 s
    config.data.multiple = 1  # examples in a batch are a multiple of this; set to the devices that share a batch

    # sfjax.data.mixing.Mixer, for tasks with a noisy column that the manifest lacks
    config.mix = ConfigDict()
    config.mix.noise = ""  # manifest of noise
    config.mix.probability = 1.0  # that there is noise at all
    config.mix.snr = (-5.0, 15.0)  # dB, on active samples
    config.mix.gain = (-12.0, 6.0)  # dB, moves speech and mixture alike
    config.mix.babble = 0.0  # probability of babble instead of a noise file
    config.mix.talkers = 6
    config.mix.reach = 5.0  # seconds of a noise file that are read to measure its level

    # sfjax.data.degrade.Chain, around that noise and in this order; it is off while all probabilities are 0
    config.degrade = ConfigDict()
    config.degrade.rooms = ""  # manifest of impulse responses; `sfjax prepare rooms` makes one
    config.degrade.room = 0.0  # probability
    config.degrade.early = 0.05  # seconds behind the direct sound that belong to the target
    config.degrade.longest = 1.0  # seconds of a response that are used
    config.degrade.microphone = 0.0  # probability
    config.degrade.equaliser = (3.0, 12.0)  # dB: the largest gain or loss of an octave
    config.degrade.clip = 0.0  # probability
    config.degrade.peak = (0.05, 0.6)  # share of the peak at which the wave is clipped
    config.degrade.soft = 0.5  # share of the clipped examples that are bent instead of cut
    config.degrade.band = 0.0  # probability
    config.degrade.cutoff = (1500.0, 7000.0)  # Hz
    config.degrade.narrow = 0.25  # share of the band-limited examples that are sampled at 8 kHz
    config.degrade.codec = 0.0  # probability
    config.degrade.codecs = "mulaw:6,gsm:4,vorbis:2,mp3:1,opus:0.5"  # with weights; the slow ones are rarer
    config.degrade.compression = (0.0, 1.0)  # of a codec's range of bit rates, 1: the lowest
    config.degrade.packets = 0.0  # probability
    config.degrade.loss = (0.01, 0.2)  # share of packets that are lost
    config.degrade.packet = (0.01, 0.04)  # seconds
    config.degrade.burst = (1.0, 4.0)  # packets that are lost in a row, on average
    config.degrade.repeat = 0.5  # share of the lossy examples in which the last packet is repeated
    config.degrade.level = 0.0  # probability
    config.degrade.gain = (-20.0, 6.0)  # dB, moves target and recording alike, beside config.mix.gain

    # sfjax.data.examples.Talk, for tasks with a mixture that the manifest lacks: LibriMix's rules
    config.mixture = ConfigDict()
    config.mixture.noise = ""  # manifest of noise; "": none
    config.mixture.loudness = (-33.0, -25.0)  # LUFS of a speaker
    config.mixture.noise_loudness = (-38.0, -30.0)  # LUFS

    # sfjax.lora.Adapter: low-rank adapters beside a frozen network
    config.lora = ConfigDict()
    config.lora.rank = 0  # 0: none, everything is trained; the paper's 64
    config.lora.alpha = 64.0  # what they add is scaled by alpha / rank
    config.lora.targets = ("query", "key", "value")  # layers that have one
    config.lora.train = ""  # regular expression for paths of parameters that are trained in full beside them

    # sfjax.vocoder.phase.PhaseNet, the network of task phase
    config.phase = ConfigDict()
    config.phase.width = 512
    config.phase.kernel = 3  # frames of a convolution
    config.phase.layers = 3

    # sfjax.vocoder.gan: HiFi-GAN and its discriminators, networks of task vocode
    config.vocoder = ConfigDict()
    config.vocoder.network = "hifigan"  # or spectral, which the next section describes
    config.vocoder.channels = 512  # of the first layer; each step of upsampling halves them
    config.vocoder.upsample = (5, 4, 4, 2)  # their product is the hop
    config.vocoder.kernels = (11, 8, 8, 4)  # longer than the step by an even number, or lengths drift
    config.vocoder.residual_kernels = (3, 7, 11)
    config.vocoder.dilations = (1, 3, 5)
    config.vocoder.discriminators = 1.0  # times the original's channels
    config.vocoder.periods = (2, 3, 5, 7, 11)  # in samples, of a discriminator each
    config.vocoder.scales = 3  # the wave and its halves, of a discriminator each
    config.vocoder.frames = 50  # of a segment: 8000 samples
    config.vocoder.adversarial = 1.0  # weights of the parts of the generator's error
    config.vocoder.features = 2.0
    config.vocoder.mel = 45.0
    config.vocoder.begin = 0  # updates by the Mels alone before the discriminators join

    # sfjax.vocoder.spectral.SpectralNet, the other network of task vocode
    config.spectral = ConfigDict()
    config.spectral.width = 256
    config.spectral.blocks = 3
    config.spectral.expand = 3  # times the width inside a block
    config.spectral.kernel = 7  # frames of a convolution
    config.spectral.iterations = 8  # of Griffin-Lim

    # sfjax.optim.optimizer
    config.optim = ConfigDict()
    config.optim.peak = 5e-5
    config.optim.end = 1e-5
    config.optim.warmup = 5000  # updates
    config.optim.updates = 600_000
    config.optim.clip = 0.2  # of the global gradient norm
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.decay = 0.0  # of the weights, as in AdamW
    config.optim.phones = 1.0  # times the rate for the phones' table and gate, which start from nothing
    config.optim.muon = 0.0  # times the rate for the Transformer's kernels under Muon; 0: Adam; 6 to 10 in short runs

    config.amplitude = 0.0  # weight of the error of amplitudes (sfjax.amplitude) beside the paper's loss
    config.early = 0.0  # share of training's times that are 0, from where a single Euler step is a regression
    config.ema = 0.9999  # decay of the averaged parameters, after its warm-up
    config.accumulate = 1  # pieces that a batch is cut into, one after the other

    # sfjax.sharding.mesh: devices on each axis; -1 for the rest
    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.tensor = 1

    # sfjax.flow.solve and guidance, for pictures while training and as the defaults of inference
    config.sample = ConfigDict()
    config.sample.solver = "midpoint"
    config.sample.steps = 16  # 32 evaluations; enhance.py takes 4 for small networks
    config.sample.sway = 0.0  # even times
    config.sample.tolerance = 1e-3  # of the adaptive solver only
    config.sample.guidance = 0.7

    # sfjax.infer: recordings longer than a chunk are done in chunks that overlap
    config.infer = ConfigDict()
    config.infer.seconds = 16.0  # of a chunk: the longest that training saw
    config.infer.overlap = 2.0  # seconds that are cross-faded
    config.infer.wave = "inverse"  # Mels to waves, as in the paper (A.2); others: sfjax.audio.WAVES
    config.infer.batch = 4  # chunks done at once, at most; memory grows with it

    # What may change between two starts of one run
    config.run = ConfigDict()
    config.run.workers = 8  # processes that read data; 0: none
    config.run.log = 100  # steps between log lines
    config.run.validate = 5000  # steps
    config.run.valid_batches = 16
    config.run.pictures = 4  # validation items drawn and played at each validation
    config.run.save = 5000  # steps
    config.run.keep = 3  # newest checkpoints
    config.run.keep_every = 100_000  # steps whose multiples are kept for good; 0: none
    config.run.pass_damaged = False  # go on from the checkpoint before when the newest is damaged
    config.run.checkpoints = ""  # their folder, also gs://…; "": in the workdir
    config.run.stop = 0  # leave, saved, after this step; 0: at the last update
    config.run.max_bad = 0.01  # share of files that may go bad
    config.run.max_streak = 20  # steps in a row without finite gradients

    # Looking closer; may change between two starts of one run, too
    config.debug = ConfigDict()
    config.debug.nans = False  # stop where the first NaN is computed; slow
    config.debug.profile = (0, 0)  # first and last step of a profiler trace, in workdir/tensorboard
    if size == "box":
        config.update_from_flattened_dict(BOX)
    return config
