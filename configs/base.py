"""Every field once: its default, unit and constraint. `dyad.py` and `voting.py` start from here."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def base() -> ConfigDict:
    c = ConfigDict()
    c.seed = 0  # decides data order, sampling and resampling; same seed, same metrics
    c.steps = 1000  # training steps, one batch of rollouts each
    c.topology = "dyad"  # a key of ccpo_jax.TOPOLOGIES
    c.num_agents = 3  # voting, debate: who votes; chain: one plans, one solves, the others check
    c.tie = "expected"  # where a team votes: expected | wrong | first
    c.graph = "planner solver(0) solver(0) checker(1,2)"  # graph: role, role(turns it reads) or role@agent(...), ...
    c.decision = "last"  # graph: last (the present agent who speaks last answers) | vote (plurality of last words)

    c.model = "Qwen/Qwen2.5-1.5B-Instruct"  # Hub name or folder, "tiny" = the embedded one; "a,b" = one per agent
    c.revision = placeholder(str)  # Hub revision; None = the default branch
    c.shared_policy = False  # True: one set of parameters plays every role
    c.compute_dtype = "bfloat16"  # float32 | bfloat16; master weights stay float32
    c.attention = "auto"  # auto | fused (kernels of one NVIDIA GPU or TPU, in bfloat16) | xla; auto: fused if that runs
    c.prompt_style = "math"  # a key of ccpo_jax.prompts.PROMPTS
    c.thinking = False  # Qwen3: let the model open a think block of its own
    c.prompt_length = 1024  # tokens a problem's prompt may take, messages excluded
    c.response_length = (
        2048,
        2048,
    )  # tokens a message may take, one entry per agent (or turn); one alone serves all
    c.rating_length = 256  # credit sepo: tokens a rating may take

    c.credit = ConfigDict()
    c.credit.name = "ccpo"  # a key of ccpo_jax.CREDITS
    c.credit.alpha = 1.0  # ccpo: slope inside tanh, > 0
    c.credit.eta = 1.0  # ccpo: slope of the history gate, >= 0
    c.credit.decay = 0.99  # ccpo, agent_norm, nested with solo answers, pooled: decay of the running moments, in [0, 1)
    c.credit.min_samples = 10  # ccpo, agent_norm: values seen before shaping begins
    c.credit.weight = 0.2  # ccpo_event: weight of the bonus (lambda)
    c.credit.soft = False  # ccpo_event: bonus (J - b) / 2 instead of the three-valued event
    c.credit.own = 0.3  # sepo: weight of a role's word about itself, in [0, 1]
    c.credit.praise = 0.2  # sepo: weight of the shares where the team was right (lambda), in [0, 1)
    c.credit.blame = 0.2  # sepo: weight of the shares where it was wrong, in [0, 1)
    c.credit.answers = 4  # nested, pooled: K, answers to everything that is said, >= 2
    c.credit.solo_weight = (
        0.0  # nested: share of solo answers in agent 0's baseline, in [0, 1]; above 0 they decode
    )
    c.credit.scaled = True  # pooled: divide by the deviation of the prompt's rewards
    c.solo_samples = placeholder(
        int
    )  # answers per prompt in each masked world that decodes; None = group_size

    c.advantage = ConfigDict()
    c.advantage.baseline = placeholder(
        str
    )  # group (mean of the group) | leave_one_out | none | surprisal (mean of the
    # other prompts, every sample weighed with its surprisal; needs loss.normalize=length); None: group, but
    # none with loss reinforce_pp, which centres the whole batch, and with credits that bring their own
    c.advantage.normalize_std = placeholder(
        bool
    )  # group alone: divide by its standard deviation; None: yes, but
    # not with credits ccpo_event, sepo, magrpo and agent_norm, which are made for centred advantages

    c.loss = ConfigDict()
    c.loss.name = "grpo"  # a key of ccpo_jax.LOSSES
    c.loss.clip_low = placeholder(
        float
    )  # ratio is clipped below 1 - clip_low; None = the loss's own default
    c.loss.clip_high = placeholder(float)  # and above 1 + clip_high; None likewise
    c.loss.ratio = (
        "sequence"  # grpo: token | sequence (length-normalised, as in the paper's first version)
    )
    c.loss.dual_clip = placeholder(
        float
    )  # grpo: bound on the ratio of negative advantages, > 1; None = off
    c.loss.normalize = (
        "sequence"  # grpo: sequence | token | length (Dr.GRPO: divide by loss.max_length)
    )
    c.loss.max_length = placeholder(int)  # tokens, for normalize=length
    c.loss.entropy_bonus = 0.0  # weight of the mean token entropy

    c.group_size = 4  # G, samples per prompt, >= 2
    c.batch_size = 64  # B, prompts per step
    c.sample = ConfigDict()
    c.sample.temperature = 1.0  # > 0 in training
    c.sample.top_p = 1.0  # in (0, 1]; below 1 biases the importance ratio
    c.sample.chunk = 32  # tokens between two looks at which responses have ended; changes no token
    c.sample.rows = placeholder(
        int
    )  # responses that decode at once, the others wait; None = all; changes no token
    c.sample.stack_agents = (
        True  # one vmapped call for agents of one architecture with separate parameters
    )

    c.trainer = ConfigDict()
    c.trainer.schedule = "alternate"  # alternate | simultaneous
    c.trainer.period = 10  # alternate: steps before the next agent takes over, agent 0 first
    c.trainer.mini_batches = 1  # optimizer steps per batch of rollouts; divides batch_size
    c.trainer.pack_length = (
        2048  # tokens of a packed row: a prompt once, then its responses; longer ones lengthen it
    )
    c.trainer.micro_batch = (
        8  # packed rows per gradient computation; bounds memory, does not change results
    )
    c.trainer.skip_silent = (
        True  # leave out sequences whose advantage is exactly 0: same gradient, less work
    )
    c.trainer.not_finite = (
        "stop"  # stop | skip: what follows an update left out because a number was not finite
    )
    c.trainer.remat = "full"  # full | attention | dots | none: computed again in the backward pass, most to nothing
    c.trainer.chunk = 2048  # response tokens whose logits exist at once

    c.optimizer = ConfigDict()
    c.optimizer.learning_rate = 1e-6
    c.optimizer.warmup_steps = 0  # optimizer steps of linear warm-up, counted per agent
    c.optimizer.b1 = 0.9
    c.optimizer.b2 = 0.999
    c.optimizer.weight_decay = 0.01
    c.optimizer.grad_clip = 1.0  # global norm

    c.data = ConfigDict()
    c.data.train = "math"  # dataset name or file; "a+b" joins
    c.data.eval = "math500"  # test sets, comma-separated; never used to select a checkpoint
    c.data.heldout = 256  # problems split off the training set; they select the best checkpoint
    c.data.size = 0  # synthetic sets: problems to generate; 0 = the set's own size
    c.data.similarity = (
        1.0  # training passages that share this part of their words with a test set's are dropped
    )
    c.data.overlong = "error"  # error | drop: problems whose prompt exceeds prompt_length

    c.verifier = ConfigDict()
    c.verifier.workers = 2  # processes
    c.verifier.time_limit = 5.0  # seconds for one answer, then its process is killed
    c.verifier.max_chars = 20000  # last characters of a response that are looked at

    c.eval_every = 50  # steps between held-out evaluations; 0 = only before and after
    c.eval = ConfigDict()
    c.eval.samples = 4  # k: sampled answers per problem for avg@k and maj@k
    c.eval.batch_size = 64  # problems per call
    c.eval.greedy = True  # also evaluate at temperature 0
    c.eval.limit = 0  # problems per set; 0 = all

    c.checkpoint_every = 50  # steps between checkpoints; 0 = only at the end
    c.keep_last = 3  # newest checkpoints kept; the best is kept besides
    c.allow_changes = False  # True: go on in a workdir whose run had other values; the difference is shown either way

    c.load_time_limit = (
        3600.0  # seconds in which each dataset and each model must have been loaded; 0 = no limit
    )

    c.mesh = ConfigDict()
    c.mesh.data = -1  # replicas; -1 = all devices left over
    c.mesh.fsdp = 1  # parameter shards
    c.mesh.model = (
        1  # tensor-parallel ways; heads split only where it divides the number of key/value heads
    )
    c.mesh.rules = "default"  # a preset of devices.sharding.RULES: default or replicated_decode

    c.log = ConfigDict()
    c.log.tensorboard = True
    c.log.wandb = False  # needs the wandb package and an account
    c.journal = ConfigDict()  # rollouts.jsonl: what was said, which the report shows
    c.journal.problems = 3  # of a step that are kept; 0 = none
    c.journal.every = 25  # steps between two that are kept, wider in runs of more than 5000 steps; step 1 always is
    c.journal.chars = 2000  # most characters kept of a text: its beginning and its end
    return c


def sharded(c: ConfigDict) -> ConfigDict:
    """Models that outgrow one device: parameters and optimizer state split over eight."""
    c.mesh.fsdp = 8
    return c


def tiny(c: ConfigDict) -> ConfigDict:
    """The embedded model on any CPU: same code path, minutes instead of days."""
    c.model = "tiny"
    c.compute_dtype = "float32"
    c.prompt_style = "tiny"
    c.prompt_length = 48
    c.optimizer.learning_rate = 2e-4
    c.optimizer.weight_decay = 0.0
    c.batch_size = 16
    c.group_size = 8
    c.trainer.pack_length = 128
    c.trainer.micro_batch = 4
    c.trainer.remat = "none"
    c.trainer.schedule = "simultaneous"
    c.data.heldout = 512
    c.data.eval = ""
    c.eval.samples = 1
    c.eval.batch_size = 256
    c.eval.greedy = False
    c.eval_every = 0
    c.checkpoint_every = 0
    c.journal.every = 5
    return c
