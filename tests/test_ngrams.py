"""N-gram models: sums, hand-computed values, a plain reference."""

from __future__ import annotations

import collections
import math

import numpy as np
import pytest

from rnn_jax import ngrams
from rnn_jax.ngrams import cache, counts, kneser_ney, unigram

END, SIZE = 2, 9


def stories(seed: int, count: int = 12) -> list[np.ndarray]:
    """Random stories in which some pairs are commoner than others."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        story = [3]
        for _ in range(random.integers(0, 14)):
            follows = 3 + (story[-1] - 2) % 5 if random.random() < 0.7 else random.integers(1, 8)
            story.append(int(follows) if follows != END else 3)
        found.append(np.array([*story, END], np.int32))
    return found


class Reference:
    """Interpolated modified Kneser-Ney with dictionaries, a token at a time."""

    def __init__(self, train, order, discounts, end=END):
        self.order, self.discounts = order, discounts
        raw = [collections.Counter() for _ in range(order + 1)]
        for story in train:
            told = [end, *story.tolist()]
            for place in range(1, len(told)):
                for n in range(1, min(order, place + 1) + 1):
                    raw[n][tuple(told[place - n + 1 : place + 1])] += 1
        self.counts = [collections.Counter() for _ in range(order + 1)]
        self.counts[order] = raw[order]
        for n in range(1, order):
            for gram in raw[n + 1]:
                self.counts[n][gram[1:]] += 1
            for gram in raw[n]:
                if gram[0] == end and n > 1:
                    self.counts[n][gram] = raw[n][gram]

    def probability(self, context, token, n=None):
        n = min(self.order, len(context) + 1) if n is None else n
        if n == 0:
            return 1 / SIZE
        context = context[-(n - 1) :] if n > 1 else ()
        below = self.probability(context[1:], token, n - 1)
        after = {g: c for g, c in self.counts[n].items() if g[:-1] == tuple(context)}
        total = sum(after.values())
        if not total:
            return below
        discount = lambda count: self.discounts[n - 1][min(count, 3) - 1] if count else 0.0
        count = after.get((*context, token), 0)
        left = sum(discount(each) for each in after.values())
        return (count - discount(count)) / total + left / total * below


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_plain_reference_says_the_same(order, seed):
    train, test = stories(seed), stories(seed + 10, 4)
    model = kneser_ney.fit(train, [], order, SIZE, END)
    reference = Reference(train, order, model.discounts)
    expected = [
        math.log(reference.probability([END, *story.tolist()[:i]], int(token)))
        for story in test
        for i, token in enumerate(story)
    ]
    assert model.log_probabilities(test) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("end", [0, 2, 8])
def test_every_id_may_stand_in_a_text_and_be_the_end(end):
    for seed in range(10):
        random = np.random.default_rng(seed)
        drawn = [random.integers(0, SIZE, random.integers(0, 8)) for _ in range(12)]
        told = [np.append(story[story != end], end) for story in drawn]
        for order in (2, 3, 5):
            model = kneser_ney.fit(told[:8], [], order, SIZE, end)
            reference = Reference(told[:8], order, model.discounts, end)
            expected = [
                math.log(reference.probability([end, *story.tolist()[:i]], int(token)))
                for story in told[8:]
                for i, token in enumerate(story)
            ]
            assert model.log_probabilities(told[8:]) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_probabilities_sum_up_to_one_after_any_context(order):
    train, validation = stories(0), stories(1)
    model = kneser_ney.fit(train, validation, order, SIZE, END)
    cached = cache.Cached(model, 0.3, 2.0, 5.0)
    for context in ([], [3], [3, 4, 5], [8, 8, 8], [1, 7, 1, 7, 1, 7], train[3][:-1].tolist()):
        for each in (model, cached, cache.fit(model, validation)):
            shares = each.distribution(context)
            assert shares.sum() == pytest.approx(1, abs=1e-12)
            assert shares.min() > 0
    assert unigram.fit(train, SIZE).probabilities.sum() == pytest.approx(1)
    assert unigram.fit(train, SIZE).probabilities.min() > 0


def test_a_toy_text_by_hand():
    """One story "a b a b c": bigrams "</s> a", "a b" twice, "b a", "b c", "c </s>"."""
    a, b, c = 3, 4, 5
    model = kneser_ney.fit([np.array([a, b, a, b, c, END])], [], 2, 6, END)
    # Pairs: four came once, one twice: Y = 4 / (4 + 2 * 1) = 2/3.
    # D1 = 1 - 2 Y 1/4 = 2/3, D2 = 2 - 3 Y 0/1 = 2, D3 = 3 - 0 = 3.
    assert model.discounts[1] == pytest.approx([2 / 3, 2, 3])
    # Tokens, after how many different ones: a 2 (</s>, b), b 1, c 1, </s> 1; so 5 in all.
    # n1 = 3, n2 = 1: Y = 3/5, D1 = 1 - 2 * 3/5 * 1/3 = 3/5, D2 = 2.
    assert model.discounts[0] == pytest.approx([3 / 5, 2, 3])
    left = (3 * 3 / 5 + 1 * 2) / 5  # three tokens with 1, one with 2
    assert left == pytest.approx(0.76)
    lower = {a: 0 + left / 6, b: 0.4 / 5 + left / 6, c: 0.4 / 5 + left / 6}
    # After b: a and c once each, so (1 - 2/3) / 2 each, and 2/3 is left.
    after_b = model.distribution([a, b])
    assert after_b[a] == pytest.approx(1 / 6 + 2 / 3 * lower[a])
    assert after_b[c] == pytest.approx(1 / 6 + 2 / 3 * lower[c])
    assert after_b[b] == pytest.approx(2 / 3 * lower[b])
    # After a: b twice, whose discount is 2, so all is left.
    assert model.distribution([a])[b] == pytest.approx(lower[b])


def test_tuning_helps_the_validation_stories():
    train, validation = stories(0, 40), stories(1, 40)
    for order in (1, 3, 5):
        plain = kneser_ney.fit(train, [], order, SIZE, END)
        tuned = kneser_ney.fit(train, validation, order, SIZE, END)
        again = kneser_ney.fit(train, validation, order, SIZE, END)
        before, after = (m.log_probabilities(validation).mean() for m in (plain, tuned))
        assert after > before
        assert (tuned.discounts == again.discounts).all()
        assert cache.fit(tuned, validation).log_probabilities(validation).mean() >= after
        assert (tuned.discounts > 0).all()
        assert (tuned.discounts <= [1, 2, 3]).all()


def test_the_gradient_of_the_tuning_is_that_of_the_loss():
    train, validation = stories(0, 40), stories(1, 40)
    model = kneser_ney.fit(train, [], 3, SIZE, END)
    places = counts.look_up(model.orders, validation, SIZE, END)
    at = np.array([[0.4, 0.9, 1.3], [0.5, 1.1, 1.2], [0.7, 0.8, 1.9]])
    loss = lambda discounts: kneser_ney.loss_and_gradient(places, discounts, SIZE)[0]
    assert loss(at) == -np.log(kneser_ney.probabilities(places, at, SIZE)).mean()
    _, gradient = kneser_ney.loss_and_gradient(places, at, SIZE)
    assert np.count_nonzero(gradient) >= 7  # no token came once only, for instance
    for place in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[place] = 1e-5
        slope = (loss(at + step) - loss(at - step)) / 2e-5
        assert gradient[place] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_tuned_discounts_are_the_best_ones_near_them():
    train, validation = stories(0, 40), stories(1, 40)
    tuned = kneser_ney.fit(train, validation, 3, SIZE, END)
    places = counts.look_up(tuned.orders, validation, SIZE, END)
    loss = lambda d: -np.log(kneser_ney.probabilities(places, d, SIZE)).mean()
    best = loss(tuned.discounts)
    for n, k in np.ndindex(tuned.discounts.shape):
        for step in (-1e-3, 1e-3):
            moved = tuned.discounts.copy()
            moved[n, k] = np.clip(moved[n, k] + step, 1e-3, k + 1)
            assert loss(moved) >= best - 1e-8


def test_the_cache_remembers_the_story_alone():
    model = kneser_ney.fit(stories(0), [], 2, SIZE, END)
    cached = cache.Cached(model, 0.5, 3.0, 1e9)
    story = np.array([3, 7, 3, END])
    found = np.exp(cached.log_probabilities([story, story]))
    assert (found[:4] == found[4:]).all()
    plain = np.exp(model.log_probabilities([story]))
    weight = 0.5 * 2 / (2 + 3)  # after two tokens, one of which was a 3
    assert found[2] == pytest.approx((1 - weight) * plain[2] + weight * 1 / 2)
    faded = cache.Cached(model, 0.5, 3.0, 2.0)
    old, new = np.exp(-2 / 2), np.exp(-1 / 2)
    assert np.exp(faded.log_probabilities([story]))[2] == pytest.approx(
        (1 - weight) * plain[2] + weight * old / (old + new)
    )
    for i in range(4):
        assert faded.distribution(story[:i])[story[i]] == pytest.approx(
            np.exp(faded.log_probabilities([story]))[i]
        )


@pytest.mark.parametrize("train", [[np.array([END])], [np.array([3, END])] * 5])
def test_texts_whose_counts_of_counts_are_zero(train):
    for order in (1, 5):
        model = kneser_ney.fit(train, [np.array([4, 5, END])], order, SIZE, END)
        assert np.isfinite(model.log_probabilities([np.array([5, 3, END])])).all()
        assert model.distribution([4]).sum() == pytest.approx(1)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="order must"):
        kneser_ney.fit(stories(0), [], 0, SIZE, END)
    for nothing in ([], [np.zeros(0, np.int32)]):
        with pytest.raises(ValueError, match="a token to count"):
            kneser_ney.fit(nothing, [], 3, SIZE, END)
        with pytest.raises(ValueError, match="a token to count"):
            unigram.fit(nothing, SIZE)


@pytest.mark.parametrize("wrong", [-1, SIZE])
def test_ids_out_of_the_vocabulary_are_refused(wrong):
    told = [np.array([wrong, END])]
    for fit in (lambda s: kneser_ney.fit(s, [], 3, SIZE, END), lambda s: unigram.fit(s, SIZE)):
        with pytest.raises(ValueError, match="ids must be from 0 to 8"):
            fit(told)
        with pytest.raises(ValueError, match="ids must be from 0 to 8"):
            fit(stories(0)).log_probabilities(told)


def test_no_stories_have_no_probabilities():
    model = kneser_ney.fit(stories(0), [], 3, SIZE, END)
    for each in (model, cache.fit(model, stories(1)), unigram.fit(stories(0), SIZE)):
        assert each.log_probabilities([]).shape == (0,)


@pytest.mark.parametrize("order", [1, 3, 5])
def test_a_distribution_has_the_probability_of_the_token_that_comes(order):
    model = kneser_ney.fit(stories(0), stories(1), order, SIZE, END)
    story = max(stories(2), key=len)
    for each in (model, cache.fit(model, stories(1)), unigram.fit(stories(0), SIZE)):
        said = [each.distribution(story[:i])[token] for i, token in enumerate(story)]
        assert np.exp(each.log_probabilities([story])) == pytest.approx(said, rel=1e-12)


def test_the_yardsticks_are_in_order():
    found = ngrams.yardsticks(stories(0, 60), stories(1, 60), stories(2), SIZE, END)
    assert [name for name, _ in found] == [
        "unigram", "Kneser-Ney 3-grams", "Kneser-Ney 5-grams", "Kneser-Ney 5-grams with cache",
    ]  # fmt: skip
    assert all(len(logs) == sum(map(len, stories(2))) for _, logs in found)
    assert found[1][1].mean() > found[0][1].mean()


def test_the_first_tokens_of_a_story_have_shorter_contexts():
    """Stories "a </s>" and "a b </s>"; after "</s>", a came twice, whatever the order."""
    a, b = 3, 4
    told = [np.array([a, END]), np.array([a, b, END])]
    two, five = (kneser_ney.fit(told, [], order, 6, END) for order in (2, 5))
    # After "</s>" order 2 has the same counts in both models: nothing stands before "</s> a".
    five = five._replace(discounts=np.stack([*two.discounts, *five.discounts[2:]]))
    assert five.distribution([]) == pytest.approx(two.distribution([]), rel=1e-12)
    # Of order 3 there are "</s> a </s>", "</s> a b" and "a b </s>"; of order 4 "</s> a b </s>".
    assert [int((order.counts > 0).sum()) for order in five.orders] == [3, 4, 3, 1, 0]
