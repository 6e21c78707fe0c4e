"""What fastrnn and tf.keras share: the same program."""

import workloads


class KerasModel:
    def __init__(self, workload, threads):
        self.workload, api = workload, self.api
        shape = (workload.timesteps, workload.features)
        self.model = api.Sequential([api.Input(shape[:1] if workload.embedding else shape)])
        for layer in workload.layers:
            self.model.add(self._layer(layer))
        if workload.plain:
            self.model.set_weights([w for _, ws in workload.parameters() for w in ws])
        loss = workload.loss
        if loss == "categorical_crossentropy" and workload.head.activation is None:
            loss = api.losses.CategoricalCrossentropy(from_logits=True)
        metrics = [] if loss == "mean_squared_error" else ["accuracy"]
        self.model.compile(optimizer="adam", loss=loss, metrics=metrics)
        self.x, self.y = workload.data()

    def _layer(self, layer):
        layers = self.api.layers
        match layer:
            case workloads.Embedding(size, width):
                return layers.Embedding(size, width)
            case workloads.LSTM(units, sequences, bidirectional):
                lstm = layers.LSTM(units, return_sequences=sequences)
                return layers.Bidirectional(lstm) if bidirectional else lstm
            case workloads.Dropout(rate):
                return layers.Dropout(rate)
            case workloads.BatchNormalization():
                return layers.BatchNormalization()
        dense = layers.Dense(layer.units, layer.activation)
        return layers.TimeDistributed(dense) if self.workload.sequences else dense

    def train(self):
        w = self.workload
        history = self.model.fit(self.x, self.y, batch_size=w.batch, epochs=w.epochs, verbose=0)
        return history.history["loss"][-1]

    def predict(self):
        batch = self.workload.batch
        return self.model.predict(self.x[:batch], batch_size=batch, verbose=0)
