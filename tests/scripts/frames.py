# The document has the part below the line, without imports and data; speech is a louder frame here.
import numpy as np
from keras.layers import LSTM, BatchNormalization, Bidirectional, Dense, Dropout, TimeDistributed
from keras.models import Sequential

rng = np.random.default_rng(0)
Y_training, y_test = (rng.random((n, 149, 1)) < 0.4 for n in (256, 64))
X_training, x_test = (rng.normal(y, 1, (len(y), 149, 40)) for y in (Y_training, y_test))

# ---------------------------------------------------------------------------------------------
model = Sequential()
input_shape = (149,40)
model.add(Bidirectional(LSTM(units=20,return_sequences=True),input_shape=input_shape))
model.add(Dropout(0.5))
model.add(BatchNormalization())
model.add(TimeDistributed(Dense(1, activation='sigmoid')))
# model.add(Dense(1, activation='sigmoid'))

# LSTM参数个数计算:ht-1与xt拼接、隐藏单元数、四个门的bias
#                    (20+40)*units*4+20*4
#
#
batch_size = 64
model.compile(loss='binary_crossentropy',
              optimizer='adam',
              metrics=['accuracy'])
model.fit(X_training, Y_training,
          batch_size=batch_size,
          epochs=30,
          validation_data=(x_test, y_test),
          verbose=1)

model.summary()
