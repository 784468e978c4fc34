"""Every recipe by name. A new one is a row here."""

from collections.abc import Mapping

from services.runtime.errors import NotFound
from training.recipe import Recipe
from training.recipes.bert_classify import BertClassify
from training.recipes.cnn_mnist import CnnMnist
from training.recipes.gpt2_finetune import GPT2Finetune
from training.recipes.lenet_rgb import LeNetRgb
from training.recipes.lstm_classify import LstmClassify
from training.recipes.mlp_mnist import MlpMnist
from training.recipes.rnn_forecast import RnnForecast
from training.recipes.transformer_lm import TransformerLm

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        MlpMnist(),
        CnnMnist(),
        LeNetRgb(),
        RnnForecast(),
        LstmClassify(),
        BertClassify(),
        TransformerLm(),
        GPT2Finetune(),
    )
}


def find(name: str) -> Recipe:
    """The recipe; NotFound names those that exist."""
    if name not in RECIPES:
        raise NotFound("recipe", name, RECIPES)
    return RECIPES[name]
