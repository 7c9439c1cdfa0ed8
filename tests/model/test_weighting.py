"""Weights that go by a rule: what each rule makes of a case worked by hand, and that none depends on luck."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from depth_loss_sweep.model.checkpoint import CHECKPOINT, read_checkpoint
from depth_loss_sweep.model.gradients import agreement, norm_shares, unconflicting
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.names import TERMS, WEIGHTINGS
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import LossSettings
from depth_loss_sweep.model.training import train

from .test_training import bits, complete, stop_after

CPU = Runtime("cpu")
RULES = [name for name in WEIGHTINGS if name != "fixed"]
GIVEN = {"silog": 2.0, "l1": 0.5}


def make(name, weights=None, **options):
    """A weighting of that name."""
    return WEIGHTINGS[name].load()(weights or GIVEN, LossSettings(weighting=name, **options))


def step(weighting, seed=0, **values):
    """One step at these unweighted terms, the others being 1, each of a pixel of its own: its value is its gradient's size."""
    weighting.begin_step(0.0, seed)
    pixels = torch.ones(len(TERMS), requires_grad=True)
    prediction = pixels.view(-1, 1, 1, 1)
    terms = {name: prediction.flatten()[place] * values.get(name, 1.0) for place, name in enumerate(TERMS)}
    return weighting(terms, prediction), pixels


def used(weighting):
    """The effective weights of the terms that take part."""
    return [weighting.effective()[name] for name in GIVEN]


# ---- by hand ----------------------------------------------------------------------------------------------------


def test_random_weights_are_the_softmax_of_normal_draws_of_the_seed():
    """λ times K shares that sum to K; the same for the same seed, others for another, and near λ on average."""
    weighting = make("rlw")
    totals = [step(weighting, seed)[0].item() for seed in (7, 7, 8)]
    assert totals[0] == totals[1] != totals[2]
    silog, l1 = used(make("rlw")), GIVEN.values()
    assert silog == [*l1]  # before the first step: what was given
    weighting.begin_epoch()
    step(weighting, 7)
    silog, l1 = used(weighting)
    assert silog / 2.0 + l1 / 0.5 == pytest.approx(2.0) and silog != pytest.approx(2.0)
    for seed in range(2000):
        step(weighting, seed)
    assert used(weighting) == pytest.approx([2.0, 0.5], rel=0.05)


def test_dynamic_weight_average_by_hand():
    """SILog stayed (r = 1), L1 halved (r = 1/2); at T = 2 the shares are 2·softmax(1/2, 1/4). In the first two epochs: λ."""
    weighting, others = make("dwa"), dict.fromkeys(TERMS, 1.0)
    for l1 in (0.8, 0.4):
        weighting.begin_epoch()
        step(weighting)
        assert used(weighting) == pytest.approx([2.0, 0.5])
        weighting.end_epoch(others | {"l1": l1})
    weighting.begin_epoch()
    total, _ = step(weighting, silog=3.0, l1=5.0)
    slow, fast = math.exp(1 / 2), math.exp(1 / 4)
    expected = [2.0 * 2 * slow / (slow + fast), 0.5 * 2 * fast / (slow + fast)]
    assert used(weighting) == pytest.approx(expected)
    assert total.item() == pytest.approx(3 * expected[0] + 5 * expected[1])


def test_uncertainty_by_hand():
    """At s = (ln 2, 0) the weights are λ·(1/2, 1); the gradient of s is 1 - exp(-s)·λ·L; at L = 1/w it rests: λ cancels."""
    weighting = make("uncertainty")
    weighting.log_variances.data = torch.tensor([math.log(2.0), 0.0])
    total, _ = step(weighting, silog=3.0, l1=4.0)
    assert used(weighting) == pytest.approx([1.0, 0.5])
    assert total.item() == pytest.approx(1.0 * 3 + 0.5 * 4 + math.log(2.0))
    total.backward()
    assert weighting.log_variances.grad.tolist() == pytest.approx([1 - 3.0, 1 - 2.0])
    for given in ({"silog": 1.0, "l1": 1.0}, GIVEN):
        weighting = make("uncertainty", given)
        optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
        for _ in range(400):
            weighting.begin_epoch()
            weighting.zero_grad()
            step(weighting, silog=3.0, l1=4.0)[0].backward()
            optimizer.step()
        assert used(weighting) == pytest.approx([1 / 3, 1 / 4], rel=1e-2)


def test_what_a_rule_learns_leaves_the_network_alone(pictures, make_settings, tmp_path):
    """Clipping, decay and the recorded gradient norm are the network's; `uncertainty_rate` makes the log-variances move faster."""
    runs = {}
    for rate in (1.0, 10.0):
        settings = make_settings(weighting="uncertainty", uncertainty_rate=rate, weight_decay=0.1, optimizer="adamw")
        runs[rate], _ = complete(train(settings, pictures, tmp_path / str(rate), CPU))
    fixed, _ = complete(train(make_settings(weight_decay=0.1, optimizer="adamw"), pictures, tmp_path / "fixed", CPU))
    moved = {rate: abs(math.log(records[-1].weights["l1"] / 0.2)) for rate, records in runs.items()}
    assert moved[10.0] == pytest.approx(10 * moved[1.0], rel=0.1)
    assert runs[1.0][0].grad_norm_median == pytest.approx(fixed[0].grad_norm_median, rel=0.05)


def test_gradnorm_by_hand():
    """Gradients of 2·3 and 0.5·4 at equal rates of learning: both norms aim at 4, so SILog's share falls, L1's rises as fast."""
    weighting = make("gradnorm")
    total, pixels = step(weighting, silog=3.0, l1=4.0)
    assert used(weighting) == pytest.approx([2.0, 0.5]) and total.item() == pytest.approx(2.0 * 3 + 0.5 * 4)
    total.backward()
    assert pixels.grad.sum().item() == pytest.approx(2.0 * 3 + 0.5 * 4)
    # d|G - 4|: G = λ·2·softmax(s)·|g|, so ±Gi·(δij - softmax(s)j), at softmax(s) = (1/2, 1/2): (6 + 2) / 2.
    assert weighting.log_shares.grad.tolist() == pytest.approx([4.0, -4.0])


def test_gradnorm_waits_for_a_term_that_begins_at_0():
    """As where no picture has what it is computed from: nothing turns to NaN, and its rate counts once it has begun."""
    weighting = make("gradnorm")
    step(weighting, silog=0.0, l1=0.0)[0].backward()
    assert weighting.log_shares.grad.isfinite().all()
    weighting.zero_grad()
    step(weighting, silog=3.0, l1=4.0)[0].backward()
    assert weighting.log_shares.grad.isfinite().all() and weighting.first.tolist() == [3.0, 4.0]


def test_gradnorm_balances_gradients_whatever_the_weights_are():
    """Terms that fall alike end with weighted gradients of one size; one that lags by half ends with 1.5^α times the mean's."""
    for given in ({"silog": 1.0, "l1": 1.0}, GIVEN):
        weighting = make("gradnorm", given)
        optimizer = torch.optim.SGD(weighting.parameters(), lr=0.01)
        for _ in range(500):
            weighting.begin_epoch()
            weighting.zero_grad()
            step(weighting, silog=3.0, l1=4.0)[0].backward()
            optimizer.step()
        silog, l1 = used(weighting)
        assert 3 * silog == pytest.approx(4 * l1, rel=0.05)


def two_terms(one, other):
    """UPGrad's weights, λ = (1, 2), of terms with these gradients."""
    gradients = torch.tensor([one, other], dtype=torch.float64)
    return unconflicting(gradients @ gradients.T, torch.tensor([1.0, 2.0], dtype=torch.float64)).tolist()


def test_upgrad_by_hand():
    """Without conflict it is λ. (1, 0) and (-1, 1): each is projected onto the plane across the other; opposite ones cancel out."""
    assert two_terms([1.0, 0.0], [1.0, 1.0]) == pytest.approx([1.0, 2.0])
    # (1, 0) becomes (1, 0) + ½(-1, 1), and 2·(-1, 1) becomes 2·(-1, 1) + 2·(1, 0): together 3·(1, 0) + 2.5·(-1, 1).
    assert two_terms([1.0, 0.0], [-1.0, 1.0]) == pytest.approx([3.0, 2.5])
    w = two_terms([1.0, 0.0], [-0.5, 0.0])
    assert w[0] == pytest.approx(0.5 * w[1])
    assert two_terms([0.0, 0.0], [1.0, 1.0]) == pytest.approx([1.0, 2.0])


def test_upgrad_by_parameters_by_hand():
    """A term goes with θ, the other with φ - θ: by the prediction nothing conflicts, by (θ, φ) it does as (1, 0) and (-1, 1) do."""
    for by, expected in (("prediction", [2.0, 0.5]), ("parameters", [2.0 + 0.5, 1.0 + 0.5])):
        weighting = make("upgrad", upgrad_by=by)
        parameters = torch.tensor([1.0, 0.0, 0.0], requires_grad=True)
        weighting.begin([parameters])
        prediction = torch.stack([parameters[0], -parameters[0] + parameters[1], parameters[2]]).view(-1, 1, 1, 1)
        silog, l1, *others = prediction.flatten()
        terms = {name: {"silog": silog, "l1": l1}.get(name, others[0]) for name in TERMS}
        weighting(terms, prediction)
        assert used(weighting) == pytest.approx(expected)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_upgrad_equals_a_solver_of_quadratic_programmes(count):
    """Random conflicting gradients of sizes from 0.01 to 100: scipy's nnls says the same, and no term is raised."""
    random = np.random.default_rng(count)
    for _ in range(20):
        gradients = random.normal(size=(count, count + 1)) * 10 ** random.uniform(-2, 2, (count, 1))
        given = random.uniform(0.1, 2, count)
        found = unconflicting(torch.from_numpy(gradients @ gradients.T), torch.from_numpy(given)).numpy()
        # min |Jᵀ(u + x)|, x >= 0.
        expected = sum(u + nnls(gradients.T, -gradients.T @ u)[0] for u in np.diag(given))
        np.testing.assert_allclose(
            found @ gradients, expected @ gradients, rtol=1e-5, atol=1e-6 * np.abs(gradients).max()
        )
        assert (gradients @ (found @ gradients) > -1e-6 * np.square(gradients).sum(axis=1)).all()


@pytest.mark.parametrize("name", RULES)
def test_a_term_of_weight_zero_takes_no_part(name):
    """It gets neither weight nor gradient, whatever its value is."""
    weighting = make(name)
    total, pixels = step(weighting, ssim=math.inf)
    total.backward()
    assert math.isfinite(total.item()) and weighting.effective()["ssim"] == 0
    assert [bool(g) for g in pixels.grad] == [name in GIVEN for name in TERMS]


def test_agreement_by_hand():
    """3·(1, 0) and 1·(-1, 1): cosine -1/√2, magnitude similarity 2·3·√2 / (9 + 2), shares as 3 to √2."""
    gradients = {"silog": torch.tensor([1.0, 0.0]), "l1": torch.tensor([-1.0, 1.0])}
    weights = {"silog": 3.0, "l1": 1.0}
    found = agreement(gradients, weights)
    assert found == pytest.approx({"cosine_silog_l1": -(0.5**0.5), "similarity_silog_l1": 6 * 2**0.5 / 11})
    assert norm_shares(gradients, weights)["l1"] == pytest.approx(2**0.5 / (3 + 2**0.5))


# ---- in a training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [*({"weighting": name} for name in RULES), {"weighting": "upgrad", "upgrad_by": "parameters"}], ids=str
)
def test_stopped_and_gone_on_it_has_the_same_bits(pictures, make_settings, tmp_path, rule):
    """Stopped in every epoch: records, network, moments, the weighting's state and the result are those of an undisturbed run."""
    settings = make_settings(epochs=4, **rule)
    whole = bits(*complete(train(settings, pictures, tmp_path / "whole", CPU)), tmp_path / "whole")
    folder = tmp_path / "stopped"
    for steps in (1, 4, 4, 4):
        complete(train(settings, pictures, folder, CPU, stop_after(steps)))
    assert bits(*complete(train(settings, pictures, folder, CPU)), folder) == whole
    ends = [read_checkpoint(path / CHECKPOINT).weighting for path in (tmp_path / "whole", folder)]
    assert ends[0] and {k: v.tobytes() for k, v in ends[0].items()} == {k: v.tobytes() for k, v in ends[1].items()}


@pytest.mark.parametrize("name", RULES)
def test_an_epoch_is_recorded_with_the_weights_that_it_had(pictures, make_settings, tmp_path, name):
    """Effective weights are the rule's, positive where λ is; the recorded total is their sum over the terms."""
    records, _ = complete(train(make_settings(weighting=name, epochs=3), pictures, tmp_path, CPU))
    given = make_settings().weights
    for record in records:
        assert all((record.weights[term] > 0) == (weight > 0) for term, weight in given.items())
        for values in record.splits.values():
            assert values["total"] == pytest.approx(sum(w * values[f"term_{t}"] for t, w in record.weights.items()))
        assert sum(record.gradient_share.values()) == pytest.approx(1.0)
        assert len(record.agreement) == 12 and all(-1.001 < value < 1.001 for value in record.agreement.values())
    assert records[-1].weights != given


def test_each_rule_and_its_options_make_another_run(make_settings):
    """The rule and its options are in a run's identity; of a rule that isn't chosen, no option is."""
    kinds = [make_settings(weighting=name) for name in WEIGHTINGS] + [
        make_settings(weighting="dwa", dwa_temperature=1.0)
    ]
    assert len({run_identity(settings, CPU, "data") for settings in kinds}) == len(kinds)
    assert run_identity(make_settings(dwa_temperature=1.0), CPU, "d") == run_identity(make_settings(), CPU, "d")
