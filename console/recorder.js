// On the audio thread: samples as they are heard → steps of a fixed length.

class Recorder extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.step = new Float32Array(processorOptions.step);
    this.filled = 0;
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.step[this.filled++] = sample;
      if (this.filled === this.step.length) {
        this.port.postMessage(this.step.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
