# The calls of "How to Grid Search Hyperparameters for Deep Learning Models in Python with Keras"
# (machinelearningmastery.com), on sequences, with two processes.
import numpy as np
from keras.layers import LSTM, Dense
from keras.models import Sequential
from keras.optimizers import Adam
from keras.wrappers.scikit_learn import KerasClassifier, KerasRegressor
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score


def create_model(neurons=4, learn_rate=0.02):
    model = Sequential()
    model.add(LSTM(neurons, input_shape=(6, 2), init='uniform'))
    model.add(Dense(1, activation='sigmoid'))
    model.compile(loss='binary_crossentropy', optimizer=Adam(lr=learn_rate), metrics=['accuracy'])
    return model


def regression(loss='mse'):
    model = Sequential([LSTM(8, input_shape=(6, 2)), Dense(1)])
    model.compile(loss=loss, optimizer=Adam(0.02))
    return model


if __name__ == '__main__':
    rng = np.random.default_rng(7)
    Y = rng.integers(0, 2, 120)
    X = rng.normal(Y[:, None, None], 1, (120, 6, 2))
    model = KerasClassifier(build_fn=create_model, nb_epoch=15, batch_size=10, verbose=0)
    param_grid = dict(batch_size=[10, 40], neurons=[2, 8])
    grid = GridSearchCV(estimator=model, param_grid=param_grid, n_jobs=2, cv=3)
    grid_result = grid.fit(X, Y)
    print("Best: %f using %s" % (grid_result.best_score_, grid_result.best_params_))
    for mean, stdev in zip(grid_result.cv_results_['mean_test_score'],
                           grid_result.cv_results_['std_test_score']):
        print("%f (%f)" % (mean, stdev))
    kfold = StratifiedKFold(n_splits=3, shuffle=True, random_state=7)
    results = cross_val_score(model, X, np.where(Y, "yes", "no"), cv=kfold)
    estimator = KerasRegressor(build_fn=regression, epochs=20, batch_size=8, verbose=0)
    errors = cross_val_score(estimator, X, X.mean(axis=(1, 2)), cv=3)
    print(results, errors)
    print("score:", min(grid_result.best_score_, results.mean(), 1 + errors.mean()))
