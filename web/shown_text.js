// What a node says of its run, below its inputs. ComfyUI shows the texts of its own preview nodes only.
import { app } from "../../scripts/app.js";

const NODES = ["DiffusionToolkitIndexer", "DiffusionToolkitSearch"];
const WIDGET = "result";
const LEAST_HEIGHT = 100;

app.registerExtension({
    name: "DiffusionToolkit.ShownText",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (!NODES.includes(nodeData.name)) return;
        const onExecuted = nodeType.prototype.onExecuted;
        nodeType.prototype.onExecuted = function (output) {
            onExecuted?.apply(this, arguments);
            if (output?.text) show(this, [output.text].flat().join("\n"));
        };
    },
});

function show(node, text) {
    const widget = node.widgets?.find(({ name }) => name === WIDGET) ?? added(node);
    widget.value = text;
}

function added(node) {
    const { widget } = app.widgets.STRING(node, WIDGET, ["STRING", { multiline: true }], app);
    widget.options.getMinHeight = () => LEAST_HEIGHT;
    widget.options.read_only = true;
    if (widget.element) widget.element.readOnly = true;
    widget.options.serialize = false; // into the prompt
    widget.serialize = false; // into the workflow
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
    return widget;
}
