"""The training loop: what it computes, resumes, stops and saves."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, FileFormatError, ParameterMismatchError

RNG = np.random.default_rng(0)
X = RNG.standard_normal((70, 4)).astype(np.float32)
Y = np.argmax(X[:, :3] + 0.1 * RNG.standard_normal((70, 3)), axis=1)


def model():
    return nn.Sequential(
        nn.Linear(4, 16, bias=False), nn.BatchNorm(16), nn.ReLU(), nn.Dropout(0.2), *head()
    )


def head():
    return [nn.Linear(16, 3)]


def loader(seed=1):
    return nn.DataLoader(nn.ArrayDataset(X, Y), batch_size=16, shuffle=True, seed=seed)


def fit(epochs, **options):
    net, optimizer = model(), nn.adam(1e-2)
    settings = {"progress": False, "key": 3} | options
    return nn.fit(
        net, net.init(0, 4), loader(), optimizer, nn.cross_entropy, epochs=epochs, **settings
    )


def assert_same_bits(a, b):
    assert fg.tree.structure(a) == fg.tree.structure(b)
    for x, y in zip(fg.tree.leaves(a), fg.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_as_written_out():
    net, optimizer, data = model(), nn.adam(1e-2), loader()
    params = net.init(0, 4)
    state, key, losses = optimizer.init(params), fg.random.key(3), []
    for epoch in range(2):
        total = 0.0
        for i, (x, y) in enumerate(data.batches(epoch)):
            step_key = fg.random.fold_in(fg.random.fold_in(key, epoch), i)

            def loss_fn(params, x=x, y=y, step_key=step_key):
                outputs, params = net.train(params, x, step_key)
                return nn.cross_entropy(outputs, y), params

            (loss, params), grads = fg.value_and_grad(loss_fn, has_aux=True)(params)
            params, state = optimizer.update(grads, state, params)
            total += float(loss) * len(y)
        losses.append(total / len(X))
    fitted = fit(2)
    np.testing.assert_allclose([scores["loss"] for scores in fitted.history], losses, rtol=1e-4)
    for a, b in zip(fg.tree.leaves(fitted.params), fg.tree.leaves(params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4)


def test_it_learns_and_tells_how():
    validation = nn.DataLoader(nn.ArrayDataset(X, Y), batch_size=32)
    fitted = fit(30, metrics={"accuracy": nn.accuracy}, validation=validation)
    last = fitted.history[-1]
    assert set(last) == {"epoch", "seconds", "loss", "accuracy", "val_loss", "val_accuracy"}
    assert last["val_accuracy"] > 0.9 and last["epoch"] == fitted.epoch == len(fitted.history) == 30
    found = nn.evaluate(
        model(), fitted.params, validation, nn.cross_entropy, {"accuracy": nn.accuracy}
    )
    assert found == {"loss": last["val_loss"], "accuracy": last["val_accuracy"]}
    outputs = model()(fitted.params, X)
    np.testing.assert_allclose(found["loss"], nn.cross_entropy(outputs, Y), rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], nn.accuracy(outputs, Y), rtol=1e-6)


def test_lines_are_printed(capsys):
    fit(2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"epoch   {i}: loss ") for i, line in enumerate(lines, 1)] == [True] * 2


def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    whole = fit(4)
    checkpoint = nn.Checkpoint(tmp_path / "run")

    class Killed(Exception):
        pass

    def kill(fitted):
        if fitted.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(4, callbacks=[checkpoint, kill])
    net, optimizer = model(), nn.adam(1e-2)
    last = checkpoint.last(net.init(7, 4), optimizer)
    assert last is not None and last.epoch == 2
    resumed = fit(4, resume=last, callbacks=[checkpoint])
    assert_same_bits(
        (resumed.params, resumed.optimizer_state), (whole.params, whole.optimizer_state)
    )
    for a, b in zip(resumed.history, whole.history, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    assert checkpoint.last(net.init(7, 4), optimizer).epoch == 4


def test_nothing_left_to_do():
    fitted = fit(1)
    assert fit(1, resume=fitted) is fitted


def test_checkpoints(tmp_path):
    checkpoint = nn.Checkpoint(tmp_path, score="loss")
    net, optimizer = model(), nn.adam(1e-2)
    params = net.init(0, 4)
    assert checkpoint.last(params, optimizer) is None
    for epoch in (1, 2, 3):
        history = [{"loss": x} for x in [3.0, 1.0, 2.0][:epoch]]
        own = fg.tree.map(lambda leaf, e=epoch: np.full_like(leaf, e), params)
        checkpoint(nn.Fitted(own, optimizer.init(own), epoch, history))
    assert checkpoint.best(params)[4]["bias"][0] == 2
    assert checkpoint.last(params, optimizer).params[4]["bias"][0] == 3
    with pytest.raises(ParameterMismatchError):
        checkpoint.last(nn.Linear(4, 3).init(0, 4), optimizer)
    data = (tmp_path / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(data[:-9])
    with pytest.raises(FileFormatError):
        checkpoint.last(params, optimizer)


def test_a_run_killed_between_its_files(tmp_path):
    checkpoint = nn.Checkpoint(tmp_path)
    net, optimizer = model(), nn.adam(1e-2)
    fitted = fit(1, callbacks=[checkpoint])
    ahead = [*fitted.history, {"loss": 0.0}]
    lines = "".join(f'{{"loss": {scores["loss"]}}}\n' for scores in ahead)
    (tmp_path / "history.jsonl").write_text(lines, encoding="utf-8")
    assert len(checkpoint.last(net.init(0, 4), optimizer).history) == 1


def test_early_stopping():
    stop = nn.EarlyStopping("loss", patience=1)
    assert fit(20, callbacks=[stop, lambda fitted: None]).epoch <= 20
    scores = iter([0.5, 0.6, 0.6])
    stop = nn.EarlyStopping("score", patience=2, mode="max")

    def told(fitted):
        return stop(fitted._replace(history=[{"score": next(scores, 0.0)}]))

    assert fit(20, callbacks=[told]).epoch == 4


def test_a_loss_of_the_parameters_alone():
    net = model()

    def loss(params, x, y):
        return nn.cross_entropy(net(params, x), y)

    def accuracy(params, x, y):
        return nn.accuracy(net(params, x), y)

    data, params = loader(), net.init(0, 4)
    fitted = nn.fit(
        loss, params, data, nn.adam(1e-2), epochs=3, metrics={"accuracy": accuracy},
        validation=data, progress=False,
    )  # fmt: skip
    assert set(fitted.history[-1]) == {
        "epoch", "seconds", "loss", "accuracy", "val_loss", "val_accuracy"
    }  # fmt: skip
    found = nn.evaluate(net, fitted.params, data, nn.cross_entropy, {"accuracy": nn.accuracy})
    np.testing.assert_allclose(found["loss"], fitted.history[-1]["val_loss"], rtol=1e-6)
    assert found["accuracy"] == fitted.history[-1]["val_accuracy"]


def test_batches_of_any_number_of_arrays():
    def loss(params, batch):
        return np.mean((batch["x"] @ params - batch["y"]) ** 2)

    batches = [{"x": X[:40], "y": X[:40, 0]}, {"x": X[40:], "y": X[40:, 0]}]
    fitted = nn.fit(loss, np.zeros(4), batches, nn.sgd(0.1), epochs=80, progress=False)
    np.testing.assert_allclose(fitted.params, [1, 0, 0, 0], atol=0.01)
    whole = loss(fitted.params, {"x": X, "y": X[:, 0]})
    found = nn.evaluate(loss, fitted.params, batches)["loss"]
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    net = nn.Linear(4, 3)
    with pytest.raises(ArgumentError, match=r"gives 3 arrays a batch. Pass a function loss"):
        nn.fit(net, net.init(0, 4), [(X, Y, Y)], nn.sgd(0.1), nn.cross_entropy, epochs=1)


def test_a_rate_that_follows_from_the_scores(tmp_path):
    rate = nn.schedules.plateau(0.1, factor=0.5, patience=0).by("loss")
    traces = []

    def loss(params, x):
        traces.append(1)
        return np.mean(x) + 0 * np.sum(params)

    def momentum(rate):
        return nn.sgd(rate, momentum=0.9)

    def run(epochs, **options):
        params = np.zeros(2, np.float32)
        return nn.fit(
            loss, params, [np.ones(3)], momentum, epochs=epochs, rate=rate, progress=False,
            **options,
        )  # fmt: skip

    whole = run(4)
    assert [scores["rate"] for scores in whole.history] == [0.1, 0.1, 0.05, 0.025]
    assert len(traces) == 1 and whole.params.dtype == np.float32
    resumed = run(4, resume=run(2))
    assert [scores["rate"] for scores in resumed.history] == [0.1, 0.1, 0.05, 0.025]
    with pytest.raises(ArgumentError, match="no score 'val_loss'; there are epoch"):
        nn.schedules.plateau(0.1).by("val_loss")(whole.history)
    for optimizer, option in ((nn.sgd, None), (nn.sgd(0.1), rate)):
        with pytest.raises(ArgumentError, match=r"with rate= a function of the rate"):
            nn.fit(loss, np.zeros(2), [np.ones(3)], optimizer, epochs=1, rate=option)


def test_the_rate_is_that_of_the_updates():
    def loss(params, x):
        return np.sum(params * x)

    rates = (0.5, 0.25, 0.125)
    fitted = nn.fit(
        loss, np.zeros(1), [np.ones(1)], nn.sgd, epochs=3, progress=False,
        rate=lambda history: rates[len(history)],
    )  # fmt: skip
    np.testing.assert_allclose(fitted.params, [-sum(rates)])


def test_histories_on_disk(tmp_path):
    table, lines = tmp_path / "history.csv", tmp_path / "history.jsonl"
    fitted = fit(2, callbacks=[nn.HistoryFile(table), nn.HistoryFile(str(lines))])
    with table.open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [{n: float(v) for n, v in row.items()} for row in rows] == fitted.history
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert found == fitted.history
    with pytest.raises(ArgumentError, match=r"'history\.txt' must end in \.csv or \.jsonl"):
        nn.HistoryFile("history.txt")


def test_what_is_refused():
    with pytest.raises(ArgumentError, match="epochs must not be negative, got -1"):
        fit(-1)
    net = nn.Linear(4, 3)
    batches = iter([(X, Y)])
    with pytest.raises(ArgumentError, match="a generator is used up by the first epoch"):
        nn.fit(
            net,
            net.init(0, 4),
            batches,
            nn.sgd(0.1),
            nn.cross_entropy,
            epochs=2,
            progress=False,
        )
    with pytest.raises(ArgumentError, match="no score 'val_loss'; there are epoch, seconds, loss"):
        fit(1, callbacks=[nn.EarlyStopping()])
    for given, loss in ((net, None), (lambda params, x, y: 0.0, nn.cross_entropy)):
        with pytest.raises(ArgumentError, match=r"fit: takes a model, a nn\.Layer, with a loss"):
            nn.fit(given, net.init(0, 4), [(X, Y)], nn.sgd(0.1), loss, epochs=1)
    with pytest.raises(ArgumentError, match="mode"):
        nn.EarlyStopping(mode="least")


NET = nn.Linear(4, 3)
PARAMS, ADAM, CE = NET.init(0, 4), nn.adam(1e-3), nn.cross_entropy
RIGHT = NET, PARAMS, loader(), ADAM, CE


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (PARAMS, NET, loader(), ADAM, CE),
            {},
            r"a model is in the place of the param",
        ),
        (
            (NET, NET, loader(), ADAM, CE),
            {},
            r"fit takes parameters, .* a layer, Linear",
        ),
        ((NET, loader(), ADAM, CE), {}, r"an optimiser is in the place of the loader"),
        ((NET, PARAMS, loader(), CE, ADAM), {}, r"an optimiser is in the place of the loss. Write"),
        ((NET, PARAMS, ADAM, CE, loader()), {}, r"an optimiser is in the place of the loader"),
        (
            (NET, PARAMS, loader().dataset, ADAM, CE),
            {},
            r"a dataset, ArrayD.*DataLoader\(da",
        ),
        ((NET, PARAMS, (X, Y), ADAM, CE), {}, r"arrays are none. Write nn.DataLoader\(\(X, Y\)"),
        ((NET, PARAMS, [X, Y], ADAM, CE), {}, r"arrays are none"),
        ((NET, PARAMS, X, ADAM, CE), {}, r"arrays are none"),
        ((NET, PARAMS, loader(), nn.adam, CE), {}, r"optimizer is one, such as nn.adam\(1e-3\)"),
        (
            (NET, PARAMS, loader(), ADAM, CE),
            {"metrics": [nn.accuracy]},
            r'metrics=\{"accuracy": nn',
        ),
        (RIGHT, {"metrics": ["accuracy"]}, r"metrics are functions by"),
        (RIGHT, {"metrics": {"a": "b"}}, r"metrics are functions by"),
        (
            (NET, PARAMS, loader(), ADAM, CE),
            {"callbacks": nn.EarlyStopping()},
            r"a list of functions",
        ),
        (RIGHT, {"epochs": 1.5}, r"epochs must be an integer, not 1.5"),
        (RIGHT, {"epochs": True}, r"epochs must be an integer"),
        (
            (NET, PARAMS, loader(), ADAM, CE),
            {"validation": (X, Y)},
            r"validation=nn.DataLoader\(\(X",
        ),
        ((NET, PARAMS, [(X, Y, Y)], ADAM, CE), {}, r"takes batches \(x, y\).* gives 3 arrays"),
    ],
)
def test_arguments_in_other_places(arguments, options, message):
    with pytest.raises(ArgumentError, match=message):
        nn.fit(*arguments, **({"epochs": 1, "progress": False} | options))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PARAMS, NET, loader(), CE), r"a model is in the place.*nn.evaluate\(model, params, load"),
        ((NET, PARAMS, (X, Y), CE), r"arrays are none"),
        ((NET, PARAMS, CE, loader()), r"a function is in the place of the loader"),
        ((NET, PARAMS, loader(), CE, [nn.accuracy]), r"evaluate: metrics are functions"),
    ],
)
def test_arguments_of_evaluate_in_other_places(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        nn.evaluate(*arguments)


@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.mse, nn.huber, nn.nll, nn.accuracy, nn.l1])
@pytest.mark.parametrize("net", [NET, nn.Sequential(nn.Linear(4, 3))], ids=["dict", "tuple"])
def test_outputs_that_are_not_taken_apart_from_parameters(loss, net):
    def loss_fn(params):
        return loss(net.train(params, X), Y)

    params = net.init(0, 4)
    for call in (loss_fn, fg.grad(loss_fn), fg.jit(loss_fn)):
        with pytest.raises(ArgumentError, match=r"outputs, params = model.train\(params, x, key\)"):
            call(params)
