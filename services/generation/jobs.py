"""A request → its job, checked, with its grammar compiled. Knows no stream and no engine."""

from services.generation import constraint, convert
from services.generation.job import Job
from services.generation.model import GenerationModel
from services.runtime.context import RequestContext


async def made(request: convert.GenerateRequest, model: GenerationModel, call: RequestContext) -> Job:
    """What the request asks of the model. Raises as `convert.job` and `Grammars.compiled` do."""
    asked = constraint.asked(request.constraint)
    grammar = await model.grammars.compiled(asked) if asked else None
    return await model.prepare(lambda: convert.job(request, model, call, grammar), convert.size(request))
