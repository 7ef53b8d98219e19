"""kserve's own client asks the server by the Open Inference Protocol."""

import asyncio
import sys

from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "small")
    texts = InferInput(name="text", shape=[2], datatype="BYTES", data=["we had soup and bread", "the team won"])
    reply = await client.infer(url, InferRequest(model_name="small", infer_inputs=[texts]), model_name="small")
    outputs = {each.name: each for each in reply.outputs}
    assert outputs["label"].shape == [2], outputs
    print("kserve", outputs["label"].data)


asyncio.run(main(sys.argv[1]))
