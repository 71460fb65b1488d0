"""What every metric of metrics.jsonl means."""

import re

# Metric -> meaning. * stands for the number of an agent, a turn or a parameter set, as the meaning
# says, for a number of samples, or for the name of a part of the score; <set> for an evaluated set
# of problems: eval, or test/NAME.
MEANINGS = {
    "step": "steps completed",
    "reward": "mean reward of the team over a step's samples",
    "team_accuracy": "mean reward of the team in a step; the expected accuracy where votes tie",
    "correct/*": "mean score of an agent's own final answers; of verdicts, the share that is right",
    "solved": "share of the team's samples with a reward of 1",
    "solved/*": "share of an agent's own final answers with a score of 1",
    "score/*": "mean of a part of the score, over the team's answers",
    "score/*/*": "mean of a part of the score, over an agent's own final answers",
    "decoded_tokens": "tokens decoded in a step, in all worlds",
    "draws": "batches of prompts that a step drew. With dynamic sampling, metrics of rewards, "
    "answers, lengths, tokens, verifiers and times cover all groups drawn; those of credit and "
    "update cover the groups trained on",
    "discarded_groups": "groups that a step drew and did not train on",
    "surplus_groups": "discarded groups that were informative: the batch was full",
    "filled_groups": "uninformative groups in a step's batch, where too few others were drawn",
    "response_length/*": "mean tokens of a turn's responses",
    "truncated/*": "share of a turn's responses that were cut at their limit",
    "unfinished_thought/*": "share of a turn's responses that end within a thought",
    "credit/mean/*": "mean credit of an agent",
    "credit/var/*": "variance of an agent's credit",
    "credit/percentile_*/*": "percentile 5, 25, 50, 75 or 95 of an agent's credit",
    "credit/silent_groups/*": "share of problems whose samples all have advantage 0 for an agent",
    "credit/help_rate/*": "share of samples in which the team earns more with an agent",
    "credit/hurt_rate/*": "share of samples in which the team earns less with an agent",
    "credit/free_rider_rate/*": "of the team's right samples, the share not better with an agent",
    "credit/pivotal_rate/*": "share of votes whose reward an agent's vote changes",
    "credit/leak_rate/*": "share of an agent's messages that state the right answer to the others: "
    "their mean score",
    "overlong_penalty/*": "mean of what long responses add to an agent's credit, at most 0",
    "moments/gate": "weight of the joint reward against the Thinker's contribution, in (0, 1)",
    "moments/delta/mean": "running mean of contributions",
    "moments/delta/var": "running variance of contributions",
    "moments/joint/mean": "running mean of the team's reward",
    "moments/joint/var": "running variance of the team's reward",
    "moments/solo/mean": "running mean of the reward without the Thinker",
    "moments/solo/var": "running variance of the reward without the Thinker",
    "moments/*/mean": "running mean of an agent's contribution",
    "moments/*/var": "running variance of an agent's contribution",
    "pooled/between": "running mean of the reward's variance between thoughts",
    "pooled/within": "running mean of the reward's variance between answers to one thought",
    "nested/gain": "running mean of the team's reward minus that of the Solver alone",
    "shapley/variance": "variance that a sample of the orders of joining adds to credit",
    "rating/parsed/*": "share of an agent's ratings that hold a split and the outcome",
    "rating/no_object/*": "share of an agent's ratings without a JSON object",
    "rating/no_split/*": "share of an agent's ratings without an allowed split",
    "rating/wrong_outcome/*": "share of an agent's ratings that repeat another outcome",
    "rating/thinker_if_right/*": "mean share that an agent gives the Thinker of right outcomes",
    "rating/thinker_if_wrong/*": "mean share that an agent gives the Thinker of wrong outcomes",
    "rating/thinker_if_partial/*": "mean share that an agent gives the Thinker of outcomes "
    "between right and wrong",
    "verifier/no_answer": "texts in which no answer was found",
    "verifier/no_score": "texts that no reward function has a score for",
    "verifier/failed": "texts on which the verifier raised an error",
    "verifier/failed/*": "texts on which a reward function raised an error",
    "verifier/timed_out": "texts on which the verifier took too long",
    "verifier/crashed": "texts on which the verifier's process died",
    "verifier/gold_unparsed": "problems whose right answer could not be parsed",
    "update/trained_tokens/*": "tokens with an advantage, in all passes, per parameter set",
    "kl/*": "estimated KL divergence to the reference model in nats per token, per parameter set",
    "loss": "of a warm start: mean negative log-likelihood of a demonstration's tokens, in nats",
    "update/loss/*": "loss, per parameter set",
    "update/approx_kl/*": "estimated KL divergence from the sampling policy, per parameter set",
    "update/clip_fraction/*": "share of tokens whose gradient was clipped, per parameter set",
    "update/entropy/*": "mean entropy of a token in nats, per parameter set",
    "update/logprob_gap/*": "mean log-prob difference of sampler and trainer, per parameter set",
    "update/logprob_gap_max/*": "largest log-prob difference, per parameter set",
    "update/ratio_max/*": "largest probability ratio to the sampling policy, per parameter set",
    "update/ratio_mean/*": "mean probability ratio to the sampling policy, per parameter set",
    "update/learning_rate/*": "learning rate of the last update, where it varies, per parameter "
    "set",
    "update/grad_norm/*": "norm of the gradient before clipping, per parameter set",
    "update/left_out/*": "1: the update was not finite and was skipped, per parameter set",
    "time/rollout": "seconds of a step in which responses were decoded",
    "time/verify": "seconds of a step spent waiting for verdicts after decoding",
    "time/update": "seconds of a step for credit, gradients and the optimizer",
    "time/step": "seconds of a step",
    "time/eval": "seconds of an evaluation",
    "time/tokens_per_second": "decoded tokens per second of a step",
    "<set>/team_accuracy": "accuracy, or mean score, of the team over the samples of a problem",
    "<set>/maj_accuracy": "accuracy, or mean score, of the most frequent answer of all samples",
    "<set>/pass_at_*": "pass@k: how often at least one of k samples has a reward of 1",
    "<set>/agent_accuracy/*": "accuracy, or mean score, of an agent alone",
    "<set>/without_agent_accuracy/*": "accuracy, or mean score, of the team without an agent",
    "<set>/solved": "share of samples with a reward of 1",
    "<set>/agent_solved/*": "share of an agent's answers alone with a score of 1",
    "<set>/score/*": "mean of a part of the team's score",
    "<set>/free_ride/*": "share of samples in which the team is right with and without an agent",
    "<set>/verifier/*": "texts that the verifier could not judge, by reason",
    "<set>/verifier/failed/*": "texts on which a reward function raised an error, of a set",
    "<set>/loss": "mean negative log-likelihood of a demonstration's tokens, in nats, all roles",
    "<set>/loss/*": "mean negative log-likelihood of a demonstration's tokens, in nats, per agent",
    "<set>/problems": "problems evaluated",
    "<set>/decoded_tokens": "tokens decoded for an evaluation",
}

# What an estimator of an earlier version wrote under numbers that look like agents'.
_OLD_MEANINGS = {
    "pooled": {
        "moments/0/mean": MEANINGS["pooled/between"],
        "moments/1/mean": MEANINGS["pooled/within"],
    },
    "nested": {
        "moments/0/mean": MEANINGS["nested/gain"],
        "moments/0/var": "running variance of the team's reward minus that of the Solver alone",
    },
}


def meaning(metric: str, estimator: str = "") -> str:
    """What a metric means; "" where it is unknown.

    Args:
      metric: its name in metrics.jsonl.
      estimator: credit.name of the run.

    Example:
      >>> meaning("eval/solved/low")
      'share of samples with a reward of 1: lower end of the 95 % interval'
      >>> meaning("moments/1/mean", "pooled")
      "running mean of the reward's variance between answers to one thought"
    """
    old = _OLD_MEANINGS.get(estimator, {})
    if metric.startswith("moments/") and old:
        return old.get(metric, "")

    # A part of the score may be called "low".
    if known := _lookup(metric):
        return known

    name, edge = metric, ""
    if metric.endswith(("/low", "/high")):
        name, _, end = metric.rpartition("/")
        edge = f": {'lower' if end == 'low' else 'upper'} end of the 95 % interval"
    greedy = ""
    if "/greedy/" in name:
        name = name.replace("/greedy/", "/")
        greedy = ", greedy decoding"

    known = _lookup(name)
    return known + greedy + edge if known else ""


def _lookup(name: str) -> str:
    for pattern, text in MEANINGS.items():
        if re.fullmatch(_regular_expression(pattern), name):
            return text
    return ""


def _regular_expression(pattern: str) -> str:
    escaped = re.escape(pattern).replace(r"\*", r"[\w.\-]+")
    return escaped.replace("<set>", "(eval|test/.+)")
