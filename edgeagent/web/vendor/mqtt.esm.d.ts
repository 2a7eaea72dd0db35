/** As little of MQTT.js as is used; its own types would bring those of Node along. */
declare const mqtt: { connect(url: string, options: Record<string, unknown>): any };
export default mqtt;
