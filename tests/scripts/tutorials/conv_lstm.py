# How keras.io/examples/vision/conv_lstm begins.
import keras
from keras import layers

x = layers.ConvLSTM2D(filters=64, kernel_size=(5, 5), padding="same", return_sequences=True)
