// The settings of automatic indexing. The server reads them from ComfyUI's own settings file: see nodes/auto_index.py.
import { app } from "../../scripts/app.js";

app.registerExtension({
    name: "DiffusionToolkit.AutoIndex",
    settings: [
        {
            id: "DiffusionToolkit.AutoIndex.IdleSeconds",
            category: ["Diffusion Toolkit", "Automatic indexing", "IdleSeconds"],
            name: "Seconds without a queue before images are embedded",
            tooltip: "Embedding begins when ComfyUI has had nothing to do for so long, and ends when something is queued.",
            type: "number",
            attrs: { min: 0, max: 3600, step: 1 },
            defaultValue: 30,
        },
        {
            id: "DiffusionToolkit.AutoIndex.Mode",
            category: ["Diffusion Toolkit", "Automatic indexing", "Mode"],
            name: "Index new outputs",
            tooltip: "Adds every image that is saved in the output folder to the library, and follows images that are "
                + "renamed, moved or deleted there.",
            type: "combo",
            options: [
                { text: "Off", value: "off" },
                { text: "Metadata", value: "metadata" },
                { text: "Embeddings, too", value: "embeddings" },
            ],
            defaultValue: "embeddings",
        },
    ],
});
