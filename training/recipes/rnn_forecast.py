"""`rnn-forecast`: an RNN of ten hidden units reads twenty years of sunspots and says the next; MSE, Adam 0.01.

The article's code makes the first hidden state for a batch of one whatever the batch is, fits on raw values, and
tests on years it was trained on. Here the state is made for the batch and starts at zero, values are standard
scores of the training years, and time cuts the series: fitted to 1909, chosen by 1910–1949, tested on 1950–2008.
"""

from typing import ClassVar

from pydantic import Field

from services.sequence.models.rnn import RnnForecaster
from training.checkpoint import seed_everything
from training.data import sunspots
from training.data.mnist import Fetch
from training.forecasting import ForecastTraining
from training.plan import Plan


class RnnPlan(Plan):
    """A hundred passes over 190 windows: some seconds."""

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 0.01
    window: int = Field(20, ge=sunspots.SEASON, le=200, description="years looked at")
    horizon: int = Field(sunspots.SEASON, ge=1, le=50, description="years ahead in the report's long forecast")
    hidden_size: int = Field(10, ge=1, le=1024, description="hidden units of the RNN")


class RnnForecast:
    """Next year's sunspots from the years before; further years by feeding back."""

    name: ClassVar[str] = "rnn-forecast"
    summary: ClassVar[str] = "RNN 1-10-1 on yearly sunspots"
    plan: ClassVar[type[Plan]] = RnnPlan

    def begin(self, plan: RnnPlan, fetcher: Fetch) -> ForecastTraining:
        split = sunspots.load(fetcher)
        seed_everything(plan.seed)
        config = {"features": 1, "hidden_size": plan.hidden_size}
        return ForecastTraining(RnnForecaster(config), split, plan.window, plan.horizon, "rnn_forecaster", config)
