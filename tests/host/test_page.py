"""ComfyUI's own page in a headless browser: what our blocks say is words there, and only where they were asked.

COMFYUI_FRONTEND names the `static` folder of a page other than the server's own; CHROMIUM the browser's program.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pyramid_video.runner.specs import spec_of_info

SCRIPT = "<img src=x onerror=\"window.pwned='{}'\">"
WORD = "tangerine"  # of a caption; looked for in the pages


@pytest.fixture(scope="module")
def evil(base):
    """A folder of films whose captions and names are scripts, and a model file that is called as one."""
    folder = base / "input" / "evil"
    folder.mkdir()
    frames = [Image.new("RGB", (64, 64), (10 * step, 90, 200)) for step in range(9)]
    for name in ("a", f"b{SCRIPT.format('name').replace('/', '')}"):
        frames[0].save(folder / f"{name}.gif", save_all=True, append_images=frames[1:], duration=125)
    (folder / "a.txt").write_text(f"a {WORD} {SCRIPT.format('caption')}\x1b]0;title\x07 [[here|https://evil.example]]")
    (base / "models" / "vae" / f"{SCRIPT.format('file')}.safetensors").touch()


GRAPH = {
    "2": {
        "class_type": "PyramidVideoFolderDataset",
        "inputs": {"folder": "evil", "size": 64, "frames": 9, "fps": 8.0, "multiple": 64},
    },
    "4": {"class_type": "PyramidVideoDatasetPreview", "inputs": {"dataset": ["2", 0], "count": 1, "seed": 0}},
    "9": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
}
LISTEN = """
    window.said = []
    app.api.addEventListener('progress_text', event => said.push(event.detail.text))
    app.api.addEventListener('executed', event => said.push(...(event.detail.output?.text ?? [])))
"""
ASK = """() => new Promise(done => {
    for (const name of ['execution_success', 'execution_error'])
        app.api.addEventListener(name, () => setTimeout(() => done(said), 1000))
    app.queuePrompt(0)
})"""


def test_words_of_strangers_run_in_no_page_and_reach_only_the_one_that_asked(base, comfy, open_page, evil):
    bystander, asker = open_page(GRAPH), open_page(GRAPH)
    for page in (bystander, asker):
        page.evaluate(f"() => {{ {LISTEN} }}")
    said = asker.evaluate(ASK)
    assert any(WORD in text for text in said) and asker.get_by_text(WORD).count() > 0, "the page shows what was said"
    assert bystander.evaluate("said") == [] and bystander.get_by_text(WORD).count() == 0
    comfy.name = bystander.evaluate("app.api.clientId")  # a prompt of somebody who takes another's name
    forged = {**GRAPH, "4": {**GRAPH["4"], "inputs": {**GRAPH["4"]["inputs"], "count": 2}}}
    comfy.request("/prompt", {"prompt": forged, "client_id": comfy.name})
    bystander.wait_for_function(f"said.some(text => text.includes('{WORD}'))")
    bystander.wait_for_timeout(500)
    for page in (asker, bystander):
        assert page.evaluate("window.pwned") is None
        for link in page.locator("a[href*='evil.example']").all():  # some pages link an address, under its own name
            assert link.inner_text() in link.get_attribute("href")
    log = (base / "log.txt").read_bytes()
    assert WORD.encode() in log and b"\x1b]0;title" not in log


def test_a_file_that_is_called_as_a_script_is_in_no_menu_of_ours(comfy, evil):
    info = comfy.get("/object_info/PyramidVideoLoadVAE")["PyramidVideoLoadVAE"]
    choices = spec_of_info("PyramidVideoLoadVAE", info, is_closed=True).inputs["vae_name"].choices
    assert choices and not any("<" in name for name in choices)


def test_the_ladder_is_there_before_the_first_run_and_follows_the_numbers(open_page):
    graph = {"1": {"class_type": "PyramidVideoStages", "inputs": {"first_steps": 20, "video_steps": 10}}}
    page = open_page(graph)
    drawn = "() => app.graph.nodes[0].pyramidVideoLadder.naturalWidth && app.graph.nodes[0].pyramidVideoLadder.src"
    first = page.wait_for_function(drawn).json_value()
    page.evaluate("() => { const w = app.graph.nodes[0].widgets[0]; w.value = 4; w.callback?.(4) }")
    page.wait_for_function(f"first => {{ const now = ({drawn})(); return now && now !== first }}", arg=first)
    saved = page.evaluate("() => app.graph.serialize().nodes[0].widgets_values")
    assert saved[0] == 4 and len(saved) == 7, "the drawing is no value of the workflow"


FIRST_PICTURE = "[data-testid='template-workflow-Text to video'] img"
OUR_TEMPLATES = f"""() => {{
    if (document.querySelector("{FIRST_PICTURE}")?.naturalWidth) return true
    const leaves = [...document.querySelectorAll('.p-dialog *, [role=dialog] *')].filter(it => !it.children.length)
    leaves.filter(it => it.textContent.trim() === 'pyramid_video').at(-1)?.click() // a list that still loads forgets it
}}"""


def test_templates_have_titles_and_moving_pictures_and_the_one_that_runs_at_once_is_first(open_page):
    page = open_page({})
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.wait_for_function(OUR_TEMPLATES, polling=2000)
    page.get_by_text("Image to video", exact=True).first.click()
    page.wait_for_function("() => app.graph._nodes.some(node => node.type === 'PyramidVideoHistory')")
    answers = page.evaluate(
        """async () => {
            const titles = (await app.api.getWorkflowTemplates()).pyramid_video
            const get = (title, ending) => fetch(app.api.apiURL(`/workflow_templates/pyramid_video/${title}`) + ending)
            const graphs = await Promise.all(titles.map(async title => fetch(
                app.api.apiURL(`/workflow_templates/pyramid_video/${title}.json`))))
            const pictures = await Promise.all(titles.map(title => get(title, '.jpg')))
            const files = await Promise.all(pictures.map(it => it.arrayBuffer()))
            const kinds = files.map(it => new TextDecoder('latin1').decode(it.slice(8, 12)))
            return [titles, graphs.map(it => it.status), kinds]
        }"""
    )
    titles, statuses, kinds = answers
    assert titles[0] == "Text to video" and "Helios" in titles[-1]
    assert set(statuses) == {200} and set(kinds) == {"WEBP"} and len(titles) == len(statuses) > 20


def test_text_to_video_is_an_app_where_the_page_has_apps(open_page):
    page = open_page({})
    page.evaluate(
        "async () => app.loadGraphData(await (await fetch("
        "'/api/workflow_templates/pyramid_video/text_to_video.json')).json())"
    )
    assert page.evaluate("() => app.graph._nodes.length") == 13
    if page.evaluate("() => Number(window.__COMFYUI_FRONTEND_VERSION__.split('.')[1]) >= 40"):  # apps since about then
        page.evaluate("() => app.extensionManager.command.execute('Comfy.ToggleLinear')")
        for widget in ("text", "seconds", "seed"):
            page.get_by_text(widget, exact=True).first.wait_for()


FOUND = "() => [...document.querySelectorAll('[role=option]')].map(option => option.innerText.toLowerCase())"


def test_what_people_search_for_finds_our_blocks_and_titles_stay_short(open_page):
    page = open_page({})
    page.evaluate("() => app.graph.clear()")
    for words in ("text to video", "image to video", "i2v", "t2v"):
        page.evaluate("() => app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
        page.keyboard.type(words, delay=20)
        page.wait_for_function(f"() => ({FOUND})().some(text => text.includes('pyramid video'))")
        if words != "t2v":
            page.keyboard.press("Escape")
            page.wait_for_function(f"() => !({FOUND})().length")  # a box that still closes takes the next words too
    page.wait_for_timeout(500)
    page.keyboard.press("Enter")
    page.wait_for_function("() => (app.graph.nodes ?? app.graph._nodes).length")
    title = page.evaluate("() => app.graph.serialize().nodes[0].title ?? app.graph._nodes[0].title")
    assert title and "t2v" not in title


def test_a_text_that_comes_last_leaves_the_clip_on_the_node(open_page):
    page = open_page({"1": {"class_type": "PyramidVideoSampler", "inputs": {}}})
    shown = page.evaluate(
        """() => {
            const [node] = app.graph.nodes
            const send = output => app.api.dispatchCustomEvent('executed', {
                node: String(node.id), display_node: String(node.id), prompt_id: 'p', output })
            send({ images: [{ filename: 'clip.webp', subfolder: '', type: 'temp' }], animated: [true] })
            send({ text: ['a red rabbit'] })
            return [app.nodeOutputs[node.id], node.properties['Pyramid Video note']]
        }"""
    )
    assert shown[0]["images"][0]["filename"] == "clip.webp" and shown[1] == "a red rabbit"


def test_a_clip_that_plays_has_room_on_the_classic_canvas_and_the_block_may_be_made_smaller(open_page):
    page = open_page({"1": {"class_type": "PyramidVideoSampler", "inputs": {}}})
    page.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    before, first, second = page.evaluate(
        """() => {
            const [node] = app.graph.nodes
            const play = () => app.api.dispatchCustomEvent('executed', {
                node: String(node.id), display_node: String(node.id), prompt_id: 'p',
                output: { images: [{ filename: 'clip.webp', subfolder: '', type: 'temp' }], animated: [true] } })
            node.setSize([300, 0])
            const heights = [node.size[1]]
            play()
            heights.push(node.size[1])
            node.setSize([300, 250])
            play()
            return [...heights, node.size[1]]
        }"""
    )
    assert first >= before + 200 and second == 250


RUN = """() => new Promise(done => {
    for (const name of ['execution_success', 'execution_error'])
        app.api.addEventListener(name, () => setTimeout(() => done(name), 500))
    app.queuePrompt(0)
})"""
SHOWN = """() => Object.fromEntries(app.graph._nodes.map(node => [node.type, {
    clip: app.nodeOutputs[node.id]?.images?.[0].filename, note: node.pyramidVideoNote?.textContent,
    ladder: node.pyramidVideoLadder?.naturalWidth }]))"""


def test_a_page_that_was_loaded_since_shows_what_cached_blocks_have_to_show(open_page):
    pages = [open_page({}) for _ in range(2)]
    shown = []
    for page in pages:
        page.evaluate(
            """async () => {
                const graph = await (await fetch('/api/workflow_templates/pyramid_video/text_to_video.json')).json()
                await app.loadGraphData(graph)
                for (const node of app.graph._nodes)
                    for (const widget of node.widgets ?? [])
                        if (widget.name.startsWith('control')) widget.value = 'fixed'
            }"""
        )
        assert page.evaluate(RUN) == "execution_success"
        page.wait_for_function(f"() => {{ const it = ({SHOWN})(); return it.PyramidVideoEmptyLatent.note }}")
        page.wait_for_function(f"() => {{ const it = ({SHOWN})(); return it.PyramidVideoStages.ladder }}")
        page.wait_for_function(f"() => {{ const it = ({SHOWN})(); return it.PyramidVideoSampler.clip }}")
        shown.append(page.evaluate(SHOWN))
    for block in ("PyramidVideoSampler", "PyramidVideoEmptyLatent", "PyramidVideoStages", "SaveVideo"):
        assert shown[0][block] == shown[1][block], block


NOTES = """() => Object.fromEntries(app.graph._nodes.filter(node => node.type.startsWith('PyramidVideoLoad'))
    .map(node => [node.type.slice(16), node.pyramidVideoNote?.textContent ?? '']))"""


def test_a_loader_says_that_its_official_folder_is_not_there_and_no_more_when_it_is(open_page, models):
    page = open_page({})
    page.evaluate(
        "async () => app.loadGraphData(await (await fetch("
        "'/api/workflow_templates/pyramid_video/official_miniflux.json')).json())"
    )
    page.wait_for_function(f"({NOTES})().Model")
    notes = page.evaluate(NOTES)  # the other parts are there
    assert notes["Model"].startswith("pyramid-flow-miniflux/diffusion_transformer_768p is not on this server")
    assert notes["VAE"] == notes["TextEncoder"] == ""
    top = models / "pyramid_video" / "pyramid-flow-miniflux"
    added = Path(shutil.copytree(top / "diffusion_transformer_384p", top / "diffusion_transformer_768p"))
    page.evaluate("() => app.refreshComboInNodes()")
    page.wait_for_function(f"!({NOTES})().Model")
    shutil.rmtree(added)


def test_a_note_is_in_the_language_of_the_page(open_page):
    page = open_page({})
    page.evaluate("() => app.extensionManager.setting.set('Comfy.Locale', 'zh')")
    page.wait_for_timeout(500)
    page.evaluate(
        "async () => app.loadGraphData(await (await fetch("
        "'/api/workflow_templates/pyramid_video/text_to_video.json')).json())"
    )
    page.wait_for_function(
        "app.graph.nodes.some(node => node.type === 'MarkdownNote' && node.widgets[0].value.startsWith('## 文生视频'))"
    )
    if os.environ.get("SHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=os.environ["SHOTS"])
