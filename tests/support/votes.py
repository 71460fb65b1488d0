"""A plurality vote and its counterfactuals in plain Python: what the arrays are compared with."""

import itertools

import numpy as np


def plain_vote(answers, scores, tie="expected"):
    """The score of the plurality answer, voter by voter; -1 = abstains."""
    classes: dict = {}
    for voter, (answer, score) in enumerate(zip(answers, scores, strict=True)):
        if answer >= 0:
            classes.setdefault(int(answer), []).append((voter, float(score)))
    if not classes:
        return 0.0
    top = max(len(voters) for voters in classes.values())
    winners = [voters for voters in classes.values() if len(voters) == top]
    if tie == "wrong" and len(winners) > 1:
        return 0.0
    if tie == "first":
        winners = [min(winners)]
    return float(np.mean([np.mean([score for _, score in voters]) for voters in winners]))


def plain_contribution(answers, scores, voter, tie="expected"):
    """What one voter adds to a team."""
    without = list(answers)
    without[voter] = -1
    return plain_vote(answers, scores, tie) - plain_vote(without, scores, tie)


def plain_cross_play(answer_id, correct, tie="expected"):
    """``[A, B, G]``: every sample's contribution, averaged over all teams of the others' samples."""
    batch, group, agents = answer_id.shape
    credit = np.zeros((agents, batch, group))
    for k, b, g in itertools.product(range(agents), range(batch), range(group)):
        total = 0.0
        for others in itertools.product(range(group), repeat=agents - 1):
            samples = [*others[:k], g, *others[k:]]
            members = (b, samples, range(agents))
            total += plain_contribution(answer_id[members], correct[members], k, tie)
        credit[k, b, g] = total / group ** (agents - 1)
    return credit
