"""Drive the studio through its API: photos up, a training followed, images down.

python examples/studio_api.py http://127.0.0.1:7860 assets/subjects/robot robot [STEPS]

With a login it takes the token from ORTHODIFF_TOKEN. Images are written into this folder.
"""

import json
import os
import sys
import time
from pathlib import Path

import httpx


def main(url: str, photos: str, class_word: str, steps: str | None = None) -> None:
    token = os.environ.get("ORTHODIFF_TOKEN")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        files = [("photos", (p.name, p.read_bytes())) for p in sorted(Path(photos).glob("*.png"))]
        subject = client.post("/api/subjects", files=files).raise_for_status().json()
        print(*subject["problems"], *subject["advice"], sep="\n")

        config = {"class_word": class_word, "preset": "quick", "max_train_steps": steps}
        body = {"kind": "dreambooth", "subject": subject["id"], "config": config}
        job = client.post("/api/jobs", json=body).raise_for_status().json()
        with client.stream("GET", f"/api/jobs/{job['id']}/events", timeout=None) as events:
            for line in events.iter_lines():
                if line.startswith("data: ") and "loss" in line:
                    step = json.loads(line[6:])
                    print(f"step {step['step']}: loss {step['loss'] or 0:.4f}")
        ended = client.get(f"/api/jobs/{job['id']}").json()
        if ended["status"] != "succeeded":
            sys.exit(f"The training {ended['status']}: {ended['error']}")

        config = {"adapters": [{"id": job["id"]}], "prompts": ["a photo of {trigger} at night"]}
        made = client.post("/api/generate", json={"config": config}).raise_for_status().json()
        while client.get(f"/api/jobs/{made['id']}").json()["status"] in ("queued", "running"):
            time.sleep(0.5)
        for image in client.get(f"/api/jobs/{made['id']}/images").json():
            name = f"seed-{image['seed']}.png"
            Path(name).write_bytes(client.get(f"/{image['url']}").content)
            print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
