"""`rnn-forecast`: an RNN of ten hidden units reads twenty steps of a series and says the next; MSE, Adam 0.01.

The article's code makes the first hidden state for a batch of one, so no other batch can be run; it names no data
and holds nothing out. Here the state is made for the batch and starts at zero, values are standard scores of the
training steps, and time cuts the series: sunspots are fitted to 1909, chosen by 1910–1949, tested on 1950–2008; a
series of your own is cut 70/10/20.
"""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.runtime.errors import InvalidInput
from services.sequence.models.rnn import RnnForecaster
from training.checkpoint import seed_everything
from training.data import series_csv, sunspots
from training.data.mnist import Fetch
from training.data.series import SplitSeries
from training.forecasting import ForecastTraining
from training.plan import Plan


class RnnPlan(Plan):
    """A hundred passes over 190 windows: some seconds."""

    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 0.01
    data: str = Field("", description="CSV of one series, a row a step; empty = sunspots")
    time: str = Field("", description="its column of time; empty = the first")
    column: str = Field("", description="its columns of values, parted by commas; empty = all but the time")
    season: int = Field(0, ge=0, description="steps of its season, for the naive forecast; 0 = none")
    window: int = Field(20, ge=1, le=1000, description="steps looked at")
    horizon: int = Field(sunspots.SEASON, ge=1, le=500, description="steps ahead in the report's long forecast")
    hidden_size: int = Field(10, ge=1, le=1024, description="hidden units of the RNN")


class RnnForecast:
    """The next step from the steps before; further ones by feeding back."""

    name: ClassVar[str] = "rnn-forecast"
    summary: ClassVar[str] = "RNN 1-10-1 on yearly sunspots or --data FILE.csv"
    plan: ClassVar[type[Plan]] = RnnPlan

    def begin(self, plan: RnnPlan, fetcher: Fetch) -> ForecastTraining:
        split = _split(plan, fetcher)
        seed_everything(plan.seed)
        config = {"features": split.values.shape[1], "hidden_size": plan.hidden_size}
        return ForecastTraining(RnnForecaster(config), split, plan.window, plan.horizon, "rnn_forecaster", config)


def _split(plan: RnnPlan, fetcher: Fetch) -> SplitSeries:
    if plan.data:
        found = series_csv.load(Path(plan.data), plan.time, plan.column)
        return series_csv.split(found, plan.window, plan.horizon, plan.season)
    chosen = [key for key in ("time", "column", "season") if getattr(plan, key)]
    if chosen:
        raise InvalidInput(chosen[0], "is for --data; sunspots are one column with a season of eleven years")
    split = sunspots.load(fetcher)
    known = {"window": split.validation_from - 1, "horizon": len(split.values) - split.test_from}
    for key, most in known.items():
        if getattr(plan, key) > most:
            raise InvalidInput(key, f"is {getattr(plan, key)}; the years of sunspots allow {most} at most")
    return split
