import tempfile
import unittest

from model import Model, scores


class ModelTest(unittest.TestCase):
    def setUp(self):
        self.x = [[float(i), float(i % 3)] for i in range(20)]
        self.y = [1.0 if i >= 10 else 0.0 for i in range(20)]
        self.model = Model.fit(["a", "b"], self.x, self.y, epochs=200, learning_rate=0.5)

    def test_learns_a_line(self):
        self.assertGreaterEqual(scores(self.model, self.x, self.y)["accuracy"], 0.95)

    def test_survives_saving(self):
        with tempfile.TemporaryDirectory() as folder:
            self.model.save(folder)
            again = Model.load(folder)
        self.assertEqual([again.predict(r) for r in self.x], [self.model.predict(r) for r in self.x])


if __name__ == "__main__":
    unittest.main()
