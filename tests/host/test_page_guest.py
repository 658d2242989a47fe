"""Our scripts are guests in ComfyUI's page: they ask for little, break nothing of it and change no workflow."""

from __future__ import annotations

RUN = """() => new Promise(done => {
    for (const name of ['execution_success', 'execution_error'])
        app.api.addEventListener(name, () => setTimeout(() => done(name), 2500))
    app.queuePrompt(0)
})"""
CORE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}
STAGES = {
    "1": {"class_type": "PyramidVideoStages", "inputs": {"first_steps": 20, "video_steps": 10}},
    "2": {"class_type": "PyramidVideoStageSteps", "inputs": {"stages": ["1", 0], "stage": 0}},
    "3": {"class_type": "PyramidVideoHistory", "inputs": {}},
}
LATENT = {
    "1": {"class_type": "PyramidVideoLoadVAE", "inputs": {}},
    "2": {"class_type": "PyramidVideoEmptyLatent", "inputs": {"vae": ["1", 0], "length_unit": "seconds"}},
    "3": {"class_type": "PyramidVideoLatentViewer", "inputs": {"samples": ["2", 0]}},
}
CHANGED = """() => {
    const workflow = app.extensionManager.workflow.activeWorkflow, tracker = workflow.changeTracker
    ;(tracker.captureCanvasState ?? tracker.checkState).call(tracker)
    return [tracker.undoQueue.length, workflow.isModified]
}"""
AS_SAVED = """() => {
    const workflow = app.extensionManager.workflow.activeWorkflow
    workflow.changeTracker.reset(app.rootGraph.serialize())
    workflow.isModified = false
}"""
HIDE = """type => {
    const node = app.graph._nodes.find(node => node.type === type)
    window.shown = app.graph.convertToSubgraph(new Set([node]))
    return [shown.subgraph.nodes[0].type, shown.node.type]
}"""


def test_a_run_without_a_block_of_ours_asks_for_no_history(open_page):
    page, asked = open_page(CORE), []
    page.on("request", lambda request: asked.append(request.url) if "/history" in request.url else None)
    for colour in (0, 0, 1):
        page.evaluate(
            "colour => (app.graph._nodes.find(it => it.type === 'EmptyImage').widgets[3].value = colour)", colour
        )
        assert page.evaluate(RUN) == "execution_success"
    assert [url for url in asked if "max_items=32" in url] == []


def test_the_runs_before_are_asked_for_once_and_not_after_each_run(open_page):
    page, asked = open_page(LATENT), []
    page.on("request", lambda request: asked.append(request.url) if "max_items=32" in request.url else None)
    for view in ("frames", "channels", "frames"):
        page.evaluate(
            "view => (app.graph._nodes.find(it => it.type === 'PyramidVideoLatentViewer').widgets[0].value = view)",
            view,
        )
        assert page.evaluate(RUN) == "execution_success"
    assert len(asked) <= 1


def test_a_run_is_no_change_of_the_workflow(open_page):
    page = open_page(LATENT)
    page.evaluate(AS_SAVED)
    before = page.evaluate(CHANGED)
    assert page.evaluate(RUN) == "execution_success"
    notes = "app.graph._nodes.map(node => node.properties['Pyramid Video note'] ?? '')"
    assert any("frames" in note for note in page.evaluate(notes))
    page.wait_for_timeout(500)
    assert page.evaluate(CHANGED) == before and before[1] is False


def test_blocks_that_are_in_no_graph_are_left_alone(open_page):
    page, errors = open_page(STAGES), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.evaluate("() => { window.kept = LiteGraph.createNode('PyramidVideoStageSteps') }")
    page.wait_for_timeout(400)
    page.evaluate("() => app.graph.add(kept)")
    page.wait_for_timeout(400)
    page.evaluate("() => { kept.widgets[0].callback?.(1); app.graph.remove(kept) }")
    page.wait_for_timeout(400)
    page.evaluate("() => { app.graph.convertToSubgraph(new Set(app.graph._nodes)) }")
    page.wait_for_timeout(400)
    page.evaluate("() => app.loadGraphData(app.rootGraph.serialize())")
    page.wait_for_timeout(1500)
    assert errors == []


def test_a_widget_that_is_shown_on_a_subgraph_is_never_locked(open_page):
    page = open_page(LATENT)
    page.evaluate("() => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    page.evaluate(HIDE, "PyramidVideoEmptyLatent")
    page.evaluate(
        """() => {
            const { node, subgraph } = shown, [inner] = subgraph.nodes
            for (const name of ['length_unit', 'frames', 'seconds']) {
                const slot = inner.inputs.find(input => input.widget?.name === name)
                subgraph.addInput(name, String(slot.type)).connect(slot, inner)
            }
            const unit = node.widgets.find(widget => widget.name === 'length_unit')
            unit.value = 'frames'
            unit.callback?.('frames', app.canvas, node)
        }"""
    )
    fields = "[...document.querySelectorAll(`[data-node-id='${shown.node.id}'] input`)]"
    page.wait_for_function(f"{fields}.length >= 2")
    assert not any(page.evaluate(f"{fields}.map(field => field.disabled)"))


def test_a_loader_in_a_subgraph_says_no_more_that_its_model_is_missing_once_it_is_there(open_page):
    page = open_page({"1": {"class_type": "PyramidVideoLoadModel", "inputs": {}}})
    page.evaluate(HIDE, "PyramidVideoLoadModel")
    said = page.evaluate(
        """async () => {
            const [node] = shown.subgraph.nodes, widget = node.widgets.find(({ name }) => name === 'model_name')
            const there = widget.value, said = () => node.pyramidVideoNote?.textContent
            widget.value = 'nowhere/model'
            widget.callback?.('nowhere/model')
            const before = said()
            widget.value = there // as when the folder has come
            await app.refreshComboInNodes()
            return [before, said()]
        }"""
    )
    assert said[0].startswith("nowhere/model is not on this server") and said[1] == ""


def test_templates_are_listed_where_their_words_cannot_be_read(open_page):
    page = open_page({})
    page.evaluate("() => app.extensionManager.setting.set('Comfy.Locale', 'zh')")
    page.wait_for_timeout(500)
    answers: list[dict | None] = []
    page.route("**/words/zh.json", lambda route: route.fulfill(**answers[-1]) if answers[-1] else route.abort())
    for answer in ({"status": 502}, {"status": 200, "content_type": "text/html", "body": "<html>Log in</html>"}, None):
        answers.append(answer)
        listed = page.evaluate("async () => (await app.api.getWorkflowTemplates()).pyramid_video")
        assert listed[0] == "Text to video", answer
