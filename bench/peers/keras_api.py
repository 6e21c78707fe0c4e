"""What fastrnn and tf.keras share: the same program."""

from functools import partial

import networks


class KerasModel:
    """A subclass has `api`, `compiled(model)`, the fastest documented call of a model, and
    `ready(x)`, an array in the form which that takes."""

    def __init__(self, workload, threads):
        self.workload = workload
        if isinstance(workload, networks.Decoding):
            way = self.compiled if workload.calls == "compiled" else _predict
            pair = [_of_lists(way(self._model(p))) for p in (workload.encoder, workload.decoder)]
            self.one = partial(workload.greedy, *pair)
            return
        api = self.api
        self.model = self._model(workload)
        losses = [
            api.losses.CategoricalCrossentropy(from_logits=True)
            if loss == "categorical_crossentropy" and not head.activation
            else loss
            for loss, head in zip(workload.losses, workload.heads, strict=True)
        ]
        metrics = [[] if loss == "mean_squared_error" else ["accuracy"] for loss in losses]
        self.model.compile("adam", _one_or_all(losses), metrics=_one_or_all(metrics))
        self.xs, self.ys = workload.data()
        self.x, self.y = _one_or_all(self.xs), _one_or_all(self.ys)
        self.batch = _one_or_all([x[: workload.batch] for x in self.xs])
        sample = _one_or_all([self.ready(x[:1]) for x in self.xs])
        self.one = partial(self.compiled(self.model), sample)

    def _model(self, network):
        api = self.api
        if isinstance(network, networks.Chain):
            (start,) = network.inputs.values()
            layers = [self._layer(layer, network.sequences) for layer in network.layers]
            model = api.Sequential([api.Input(start.sizes), *layers])
            if network.plain:
                model.set_weights([w for _, ws in network.parameters() for w in ws])
            return model
        tensors = {
            name: api.Input(layer.sizes, dtype="int32" if layer.indices else "float32", name=name)
            for name, layer in network.inputs.items()
        }
        for node, weights in network.parameters():
            inputs = [tensors[name] for name in node.inputs]
            if isinstance(node.layer, networks.WeightedSum):
                outs = api.layers.Flatten()(api.layers.Dot(axes=1)(inputs))
            else:
                layer = self._layer(node.layer)
                if isinstance(node.layer, networks.LSTM):
                    outs = layer(inputs[0], initial_state=inputs[1:] or None)
                else:
                    outs = layer(_one_or_all(inputs))
                layer.set_weights(weights)
            outs = outs if isinstance(outs, (list, tuple)) else [outs]
            tensors.update(zip(node.outputs, outs, strict=True))
        ends = _one_or_all([tensors[name] for name in network.outputs])
        return api.Model(_one_or_all([tensors[name] for name in network.inputs]), ends)

    def _layer(self, layer, each_step=False):
        layers = self.api.layers
        match layer:
            case networks.Embedding(size, width, masked):
                return layers.Embedding(size, width, mask_zero=masked)
            case networks.LSTM(units, sequences, bidirectional, states):
                lstm = layers.LSTM(units, return_sequences=sequences, return_state=states)
                return layers.Bidirectional(lstm) if bidirectional else lstm
            case networks.Dropout(rate):
                return layers.Dropout(rate)
            case networks.BatchNormalization():
                return layers.BatchNormalization()
            case networks.Concatenate():
                return layers.Concatenate()
            case networks.Attention():
                return layers.Attention()
            case networks.SoftmaxOverTime():
                return layers.Softmax(axis=1)
            case networks.CRF(units):
                if not hasattr(layers, "CRF"):
                    raise NotImplementedError("a network with a CRF")
                return layers.CRF(units)
        dense = layers.Dense(layer.units, layer.activation)
        return layers.TimeDistributed(dense) if each_step else dense

    def train(self):
        w = self.workload
        history = self.model.fit(self.x, self.y, batch_size=w.batch, epochs=w.epochs, verbose=0)
        return history.history["loss"][-1]

    def predict(self):
        return self.model.predict(self.batch, batch_size=self.workload.batch, verbose=0)


def _predict(model):
    return partial(model.predict, verbose=0)


def _of_lists(call):
    """A model's call as one that takes and gives lists."""

    def called(xs):
        ys = call(_one_or_all(xs))
        return ys if isinstance(ys, (list, tuple)) else [ys]

    return called


def _one_or_all(values):
    return values[0] if len(values) == 1 else values
