"""Every field of a config, with its unit and its reason. The other configs are short differences from this one.

`get_config("tiny" | "box" | "small" | "base" | "large")` sets the size of the network. `large` is the paper's network.
`box` is also a recipe, for training on one or two CPU cores. Each section holds the keyword arguments of one function,
which the comment above it names. You can override every field: `--config.optim.peak=1e-4`.
"""

from ml_collections import ConfigDict

SIZES = {  # width, layers, heads, ffn
    "tiny": (64, 4, 4, 256),  # 0.3 M parameters: a toy for one CPU
    "box": (256, 6, 4, 1280),  # 6 M: base, enhance and separate in the package
    "small": (384, 8, 6, 1536),  # 16 M: small enough to publish
    "base": (768, 12, 12, 3072),  # 93 M
    "large": (1024, 24, 16, 4096),  # 330 M, SpeechFlow 4.1
}
BOX = {  # learns most in an hour on two CPU cores: tests/benchmarks/README.md, "Speedrun"
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
LAPTOP = {  # batches, schedules and validation for one CPU: the networks of these sizes are not the paper's
    "tiny": {
        "data.buckets": (4.0, 8.0),
        "data.seconds": 32.0,
        "optim.peak": 1e-3,
        "optim.end": 1e-4,
        "optim.warmup": 100,
        "optim.updates": 2000,
        "ema": 0.99,
        "run.workers": 1,
        "run.log": 20,
        "run.validate": 250,
        "run.valid_batches": 4,
        "run.save": 250,
        "run.pictures": 2,
    },
    "small": {
        "data.buckets": (4.0, 8.0, 16.0),
        "data.seconds": 64.0,
        "optim.peak": 5e-4,
        "optim.end": 5e-5,
        "optim.warmup": 500,
        "optim.updates": 20_000,
        "ema": 0.999,
        "run.workers": 1,
        "run.log": 20,
        "run.validate": 1000,
        "run.valid_batches": 8,
        "run.save": 500,
    },
    "box": BOX,
}


def get_config(size: str = "large") -> ConfigDict:
    """Return the config of the paper's pre-training (SpeechFlow 4.1 and Table 5), with the network of `size`.

    Sizes in `LAPTOP` also have batches and a schedule of their own.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; choose from {', '.join(SIZES)}")
    width, layers, heads, ffn = SIZES[size]
    config = ConfigDict()
    config.seed = 0  # seed of initial parameters, masks, noise, times and dropout
    config.init_from = ""  # model whose averaged parameters (EMA) a new run starts from
    config.process = "flow"  # or diffusion, for comparison; see sfjax.objective.PROCESSES
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
    config.mel.floor = 1e-5  # with 1e-3, PESQ is 0.9 lower
    config.mel.mean = -5.8843  # of the natural logarithm of the spectrogram, over speech
    config.mel.std = 2.2615  # likewise

    # sfjax.model.Estimator
    config.model = ConfigDict()
    config.model.width = width
    config.model.layers = layers
    config.model.heads = heads
    config.model.ffn = ffn
    config.model.dropout = 0.1  # of activations inside the FFN
    config.model.conv_kernel = 15  # if ConvPos width 31 means 31 // 2, as in data2vec 2.0; 31 if it is the kernel
    config.model.conv_groups = 16
    config.model.conv_depth = 2
    config.model.patch = 1  # frames per token; the paper: 1; 2 halves the cost of a step
    config.model.precondition = "none"  # as in the paper; flow: scale input and output by time, see sfjax.flow.scales
    config.model.residual = False  # as in the paper; True: add the output to the condition, for recordings nearly clean
    config.model.lookahead = -1  # frames after the present one that the network sees; -1: all; live.py takes 4
    config.model.history = 200  # frames before the present one that attention sees; no limit if lookahead is -1
    config.model.attention_block = 256  # queries whose scores are in memory at the same time; 0: all
    config.model.remat = "full" if size in ("base", "large") else "none"  # none, dots or full: saves memory, costs time
    config.model.unroll = 1 if size in ("base", "large") else layers // 2  # layers unrolled in a step of the scan

    # sfjax.tasks.make
    config.task = ConfigDict()
    config.task.name = "pretrain"
    config.task.drop = 0.1  # probability that the whole condition is dropped
    config.task.fraction = (0.7, 1.0)  # share of frames that are hidden
    config.task.shortest = 10  # frames in the shortest hidden span

    # sfjax.data.loader
    config.data = ConfigDict()
    config.data.train = ""  # manifests, optionally with weights, as in a.parquet:10,b.parquet:1
    config.data.valid = ""  # the same for validation; "": the valid split of data.train
    config.data.split = "train"
    config.data.valid_split = "valid"
    config.data.buckets = (4.0, 8.0, 12.0, 16.0)  # lengths of batches in seconds; longer utterances are cropped
    config.data.seconds = 2400.0  # seconds of a global batch: 32 devices × 75 s
    config.data.multiple = 1  # examples in a batch are a multiple of this; set it to the number of devices

    # sfjax.data.noise_mixer.Mixer, for tasks with a noisy column that the manifest lacks
    config.mix = ConfigDict()
    config.mix.noise = ""  # manifest of noise
    config.mix.probability = 1.0  # probability of any noise
    config.mix.snr = (-5.0, 15.0)  # dB, measured on active samples
    config.mix.gain = (-12.0, 6.0)  # dB, of speech and mixture alike
    config.mix.babble = 0.0  # probability of babble instead of a noise file
    config.mix.talkers = 6  # in babble
    config.mix.reach = 5.0  # seconds of a noise file that are read to measure its level

    # sfjax.data.degrade.Chain: degradations before and after that noise, in this order; off if all probabilities are 0
    config.degrade = ConfigDict()
    config.degrade.rooms = ""  # manifest of impulse responses; `sfjax prepare rooms` makes one
    config.degrade.room = 0.0  # probability
    config.degrade.early = 0.05  # seconds after the direct sound that belong to the target
    config.degrade.longest = 1.0  # seconds of a response that are used
    config.degrade.microphone = 0.0  # probability
    config.degrade.equaliser = (3.0, 12.0)  # dB, range of the largest gain or loss of an octave
    config.degrade.clip = 0.0  # probability
    config.degrade.peak = (0.05, 0.6)  # share of the peak at which the waveform is clipped
    config.degrade.soft = 0.5  # share of the clipped examples with soft clipping
    config.degrade.band = 0.0  # probability
    config.degrade.cutoff = (1500.0, 7000.0)  # Hz
    config.degrade.narrow = 0.25  # share of the band-limited examples that are sampled at 8 kHz
    config.degrade.codec = 0.0  # probability
    config.degrade.codecs = "mulaw:6,gsm:4,vorbis:2,mp3:1,opus:0.5"  # with weights; slow codecs are rarer
    config.degrade.compression = (0.0, 1.0)  # 0: highest bit rate of a codec; 1: lowest
    config.degrade.packets = 0.0  # probability
    config.degrade.loss = (0.01, 0.2)  # share of packets that are lost
    config.degrade.packet = (0.01, 0.04)  # seconds of a packet
    config.degrade.burst = (1.0, 4.0)  # packets that are lost in a row, on average
    config.degrade.repeat = 0.5  # share of the lossy examples in which the last packet is repeated
    config.degrade.level = 0.0  # probability
    config.degrade.gain = (-20.0, 6.0)  # dB, of target and recording alike, in addition to config.mix.gain

    # sfjax.data.examples.Talk, for tasks with a mixture that the manifest lacks: by the rules of LibriMix
    config.mixture = ConfigDict()
    config.mixture.noise = ""  # manifest of noise; "": none
    config.mixture.probability = 1.0  # probability of noise, if there is a manifest
    config.mixture.loudness = (-33.0, -25.0)  # LUFS of a speaker
    config.mixture.noise_loudness = (-38.0, -30.0)  # LUFS

    # sfjax.data.examples.Enrolled, for task extract: the recording of the voice that stands before a mixture
    config.enrolment = ConfigDict()
    config.enrolment.seconds = (1.0, 5.0)  # its length
    config.enrolment.absent = 0.1  # probability that its speaker is not in the mixture, so that the target is silence

    # sfjax.lora.Adapter: low-rank adapters beside a frozen network
    config.lora = ConfigDict()
    config.lora.rank = 0  # 0: no adapters, all parameters are trained; the paper: 64
    config.lora.alpha = 64.0  # the output of an adapter is scaled by alpha / rank
    config.lora.targets = ("query", "key", "value")  # layers with an adapter
    config.lora.train = ""  # regular expression for paths of parameters that are trained in full, too

    # sfjax.vocoder.phase_net.PhaseNet, the network of task phase
    config.phase = ConfigDict()
    config.phase.width = 512
    config.phase.kernel = 3  # frames of a convolution
    config.phase.layers = 3

    # sfjax.vocoder.gan_step: HiFi-GAN and its discriminators, the networks of task vocode
    config.vocoder = ConfigDict()
    config.vocoder.network = "hifigan"  # or spectral, see the next section
    config.vocoder.channels = 512  # of the first layer; each step of upsampling halves them
    config.vocoder.upsample = (5, 4, 4, 2)  # their product is the hop
    config.vocoder.kernels = (11, 8, 8, 4)  # longer than the step by an even number; else lengths drift
    config.vocoder.residual_kernels = (3, 7, 11)
    config.vocoder.dilations = (1, 3, 5)
    config.vocoder.discriminators = 1.0  # channels, relative to the original
    config.vocoder.periods = (2, 3, 5, 7, 11)  # in samples, one discriminator each
    config.vocoder.scales = 3  # the waveform and its downsampled copies, one discriminator each
    config.vocoder.frames = 50  # frames of a segment: 8000 samples
    config.vocoder.adversarial = 1.0  # weight of the adversarial loss of the generator
    config.vocoder.features = 2.0  # weight of its feature matching loss
    config.vocoder.mel = 45.0  # weight of its log-Mel loss
    config.vocoder.begin = 0  # updates with the log-Mel loss alone, before the discriminators

    # sfjax.vocoder.spectral.SpectralNet, the other network of task vocode
    config.spectral = ConfigDict()
    config.spectral.width = 256
    config.spectral.blocks = 3
    config.spectral.expand = 3  # times the width inside a block
    config.spectral.kernel = 7  # frames of a convolution
    config.spectral.iterations = 8  # of Griffin-Lim

    # sfjax.optim.count_updates, schedule and optimizer
    config.optim = ConfigDict()
    config.optim.peak = 5e-5
    config.optim.end = 1e-5
    config.optim.warmup = 5000  # updates
    config.optim.updates = 600_000
    config.optim.epochs = 0.0  # if not 0, the run takes so many epochs of data.train, and `updates` is ignored
    config.optim.clip = 0.2  # largest global norm of the gradient
    config.optim.b1 = 0.9
    config.optim.b2 = 0.999
    config.optim.decay = 0.0  # weight decay, as in AdamW
    config.optim.phones = 1.0  # factor on the rate of the phone embedding and its gate, which are not pre-trained
    config.optim.muon = 0.0  # factor on the rate of Transformer kernels, with Muon; 0: Adam; 6 to 10 in short runs

    config.amplitude = 0.0  # weight of the amplitude loss (sfjax.amplitude_loss), added to the paper's loss
    config.t0_fraction = 0.0  # share of training times that are 0; one Euler step from t = 0 is a regression
    config.ema = 0.9999  # decay of the averaged parameters, after a warm-up
    config.accumulate = 1  # pieces of a batch that are processed one after the other, to save memory

    # sfjax.sharding.mesh: devices on each axis; -1: all that remain
    config.mesh = ConfigDict()
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.tensor = 1

    # sfjax.flow.sample and solve, for validation pictures and as the defaults of inference
    config.sample = ConfigDict()
    config.sample.solver = "midpoint"
    config.sample.steps = 16  # 32 evaluations; enhance.py takes 4 for small networks
    config.sample.sway = 0.0  # even times
    config.sample.tolerance = 1e-3  # only for the adaptive solver
    config.sample.guidance = 0.7

    # sfjax.inference: recordings longer than a chunk are processed in chunks that overlap
    config.infer = ConfigDict()
    config.infer.seconds = 16.0  # length of a chunk: the longest example of training
    config.infer.overlap = 2.0  # seconds of the cross-fade between chunks
    config.infer.reconstruct = "phase"  # log-Mel to waveform, as in the paper (A.2); see sfjax.audio.RECONSTRUCTIONS
    config.infer.batch = 4  # largest number of chunks in a batch; memory grows with it

    # These fields may change between two starts of one run
    config.run = ConfigDict()
    config.run.workers = 8  # processes that read data; 0: none
    config.run.log = 100  # steps between log lines
    config.run.validate = 5000  # steps between validations
    config.run.valid_batches = 16  # batches of a validation; 0: no validation
    config.run.pictures = 4  # examples in TensorBoard, as picture and sound, at each validation
    config.run.save = 5000  # steps between checkpoints
    config.run.keep = 3  # number of newest checkpoints to keep
    config.run.keep_every = 100_000  # checkpoints at multiples of this step are kept forever; 0: none
    config.run.pass_damaged = False  # if the newest checkpoint is damaged, resume from the one before
    config.run.checkpoints = ""  # folder of the checkpoints, also gs://…; "": in the workdir
    config.run.stop = 0  # save and end after this step; 0: after the last update
    config.run.max_bad = 0.01  # largest share of files that may be unreadable
    config.run.hang = 240.0  # seconds of a step, if 20 times the median step is shorter, that end the process; 0: never
    config.run.max_streak = 20  # largest number of steps in a row without finite gradients

    # Debugging; these fields, too, may change between two starts of one run
    config.debug = ConfigDict()
    config.debug.nans = False  # stop at the first NaN; slow
    config.debug.profile = (0, 0)  # first and last step of a profiler trace, in workdir/tensorboard
    config.update_from_flattened_dict(LAPTOP.get(size, {}))
    return config
